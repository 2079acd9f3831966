"""What the page is looked at with: a few real calls, and a day of a made trace in the ledger."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict

import numpy as np

from embedder.demo.data import load_articles
from embedder.demo.pipeline import make_rounds
from embedder.engine.contents import ContentItem, ItemContents
from embedder.savings.usage import Counts, Group
from embedder.savings.usage import UsageRecord as Record
from embedder.server.runtime import Runtime
from embedder_client import Client, ClientSettings, hash_text
from embedder_client.content_hash import Modality

# Prices that nobody publishes; the page says that they were entered.
SAVINGS_FILE = """
device = "a virtual core"
region = "DEU"
pue = 1.2
usd_per_gib_month = { value = 0.10, source = "entered for this example", year = 2026 }

[devices."a virtual core"]
per = "core"
idle_watts = { value = 0.74, source = "Cloud Carbon Footprint, mean minimum of AWS processors, a vCPU", year = 2026 }
busy_watts = { value = 3.5, source = "Cloud Carbon Footprint, mean maximum of AWS processors, a vCPU", year = 2026 }
embodied_kg = { value = 30, source = "entered for this example", year = 2026 }
usd_per_hour = { value = 0.04, source = "entered for this example", year = 2026 }
"""

_VISITS = 12
_DAY_S = 86_400
_CONTENTS = 5_000
_REQUESTS = 40_000
_HEADS = ("topic", "language", "toxicity", "quality", "freshness", "brand-safety", "virality", "sentiment")
# Share of the requests, and the heads that each asks for at once.
_TENANTS = {"newsroom": (0.5, _HEADS[:3]), "shop": (0.3, _HEADS[4:6]), "trust-and-safety": (0.2, _HEADS[2:8:2])}


def play(target: str) -> None:
    """Ask as the demo does: several tasks over the same articles, for two tenants."""
    articles = load_articles()[:400]
    rounds = make_rounds(articles, ["reader"], count=_VISITS)
    for tenant, tasks in (("newsroom", ("ranking", "more-like-this", "search")), ("shop", ("offers", "ranking"))):
        settings = ClientSettings(client_name=f"{tenant}-feed", tenant=tenant, timeout_s=120)
        with Client(target, settings=settings) as client:
            for visit in rounds:
                texts = [article.text for article in visit.candidates]
                for task in tasks:
                    client.embed(texts, task=task).raise_for_failures()
                client.predict(texts[:8], heads=["topic"]).predictions  # noqa: B018 - asked for its own sake


def replay_day(runtime: Runtime) -> None:
    """Put a day of a made trace into the ledger: Zipf contents, eight heads, three tenants, busier by day than by night.

    Unit costs are this machine's: what the service's cost model has learned from its own batches.
    """
    generator = np.random.default_rng(11)
    weights = 1 / np.arange(1, _CONTENTS + 1) ** 1.1
    contents = generator.choice(_CONTENTS, size=_REQUESTS, p=weights / weights.sum())
    hours = np.arange(24)
    busy = 1 + 0.75 * np.sin((hours - 9) / 24 * 2 * math.pi)
    minute_of = generator.choice(24, size=_REQUESTS, p=busy / busy.sum()) * 60 + generator.integers(0, 60, _REQUESTS)
    order = np.argsort(minute_of, kind="stable")
    tenants = generator.choice(list(_TENANTS), size=_REQUESTS, p=[share for share, _ in _TENANTS.values()])
    item = ContentItem(hash_text("x"), Modality.TEXT, "The striker scored twice in the cup final. " * 24)
    encode_s = runtime.spaces.resolve("").engine.cost_model.call_seconds(ItemContents([item]).size)
    first = int(time.time()) // 60 * 60 - _DAY_S + 60
    seen: set[int] = set()
    counted: Counter[tuple[int, str, str, str]] = Counter()
    hashes: defaultdict[tuple[int, str, str, str], list[bytes]] = defaultdict(list)
    for row in order.tolist():
        content, tenant = int(contents[row]), str(tenants[row])
        for place, head in enumerate(_TENANTS[tenant][1]):
            source = "cache" if content in seen else "computed" if place == 0 else "in flight"
            key = (int(minute_of[row]), tenant, head, source if place == 0 or source != "cache" else "also")
            counted[key] += 1
            hashes[key].append(hash_text(f"article {content}"))
        seen.add(content)
    for (minute, tenant, head, source), count in counted.items():
        computed = count if source == "computed" else 0
        lookups = count if source in ("computed", "cache") else 0
        counts = Counts(
            asked=count,
            cache_hits=count if source in ("cache", "also") else 0,
            in_flight_hits=count if source == "in flight" else 0,
            encodes=computed,
            device_ns=round(computed * encode_s * 1e9),
            wall_ns=round(computed * encode_s * 0.5e9),
            head_ns=count * 12_000,
            unshared_ns=round(count * encode_s * 1e9),
            lookups=lookups,
            lookup_ns=lookups * 9_000,
        )
        group = Group(head, f"{tenant}-feed", "default@1", "interactive", tenant, head)
        runtime.ledger.add(Record(first + 60 * minute, group, counts, b"".join(hashes[minute, tenant, head, source])))
    runtime.ledger.flush()
