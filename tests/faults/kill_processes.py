"""Kills front-ends, engines and keepers of a service under load, and checks that each request is answered once and rightly.

    python -m tests.faults.kill_processes --kills 20 [--json]

Calls of new texts are under way on both front-ends all the time. Each round kills one process, waits until the service is healthy
again, and asks for texts whose vectors are known. `recovery_s` includes loading the model, where it was an engine.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from embedder_client import Client, ClientSettings
from tests.frontends.load import load_on
from tests.frontends.processes import running_processes, wait_until

_NAMES = ("engine-0", "frontend-0", "frontend-1", "keeper-0")
_RECOVERY_TIMEOUT_S = 120.0
_KNOWN = [f"known from the start, number {number}" for number in range(16)]


def run(*, kills: int, seed: int, folder: Path) -> dict[str, float]:
    """Kill `kills` processes; returns what was counted."""
    choice = random.Random(seed)
    recovery_s: dict[str, float] = {}
    wrong = 0
    with running_processes(folder) as service:
        settings = ClientSettings(client_name="kill", timeout_s=60)
        with Client(service.target, settings=settings) as client:
            known = client.embed(_KNOWN, durable=True).vectors
        with load_on(service, "frontend-0", "frontend-1") as loads:
            for _ in range(kills):
                name = choice.choice(_NAMES)
                killed_at = time.monotonic()
                service.kill(name)
                wait_until(lambda name=name: service.process(name).is_running(), seconds=_RECOVERY_TIMEOUT_S)
                wait_until(service.is_healthy, seconds=_RECOVERY_TIMEOUT_S)
                key = f"longest_recovery_s_{name.split('-')[0]}"
                recovery_s[key] = max(recovery_s.get(key, 0.0), round(time.monotonic() - killed_at, 2))
                with Client(service.target, settings=settings) as client:
                    wrong += int((~np.isclose(client.embed(_KNOWN).vectors, known).all(axis=1)).sum())
        outcomes: Counter[str] = sum((load.outcomes for load in loads), Counter())
    return {
        "kills": kills,
        "sent": sum(load.sent for load in loads),
        "answered": sum(outcomes.values()),
        "ok": outcomes["OK"],
        "unavailable": outcomes["UNAVAILABLE"],
        "partly_unavailable": outcomes["PARTLY"],
        "other": sum(outcomes.values()) - outcomes["OK"] - outcomes["UNAVAILABLE"] - outcomes["PARTLY"],
        "wrong": wrong,
        **recovery_s,
    }


def main() -> None:
    """Run from the command line; status 1 when a request was not answered once, or wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-processes-") as folder:
        counts = run(kills=options.kills, seed=options.seed, folder=Path(folder) / "service")
    counts["seed"] = options.seed
    sys.stdout.write(
        json.dumps(counts) + "\n" if options.json else "".join(f"{name:28} {count}\n" for name, count in counts.items())
    )
    sys.exit(1 if counts["wrong"] or counts["other"] or counts["sent"] != counts["answered"] else 0)


if __name__ == "__main__":
    main()
