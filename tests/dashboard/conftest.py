"""A real service with its page on, and a real browser before it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from embedder.config import load_settings
from embedder.server.runtime import Runtime
from embedder.server.service import Service
from embedder_heads import Head, HeadKind, HeadManifest, HeadRegistry, Task
from tests.programs import find_program

from .traffic import SAVINGS_FILE

# The sandbox can't be had by root, which CI is; nothing but the service is visited.
_BROWSER_FLAGS = (
    "--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass(frozen=True)
class Served:
    """A service with its page."""

    service: Service
    runtime: Runtime

    @property
    def url(self) -> str:
        assert self.service.web.dashboard_url is not None
        return self.service.web.dashboard_url


def serve(folder: Path) -> Served:
    """Start a service that knows prices, with one head."""
    (folder / "savings.toml").write_text(SAVINGS_FILE)
    settings = load_settings(
        listen_address="127.0.0.1:0",
        dashboard=True,
        dashboard_address="127.0.0.1:0",
        data_dir=folder,
        savings_file=folder / "savings.toml",
        cache_limit_bytes="64 MiB",
        drain_grace_ms=1_000,
    )
    service = Service(settings)
    runtime = service.start()
    space = runtime.spaces.resolve("")
    manifest = HeadManifest(
        name="topic",
        kind=HeadKind.LINEAR,
        task=Task.SINGLE_LABEL,
        space_digest=space.digest.hex(),
        dim=space.info.dim,
        labels=("one", "two"),
        thresholds=(),
        data_digest="0" * 64,
    )
    tensors = {"weight": np.eye(2, space.info.dim, dtype=np.float32), "bias": np.zeros(2, np.float32)}
    HeadRegistry(settings.heads_path).publish(Head(manifest, tensors))
    deadline = time.monotonic() + 30
    while not runtime.heads.snapshot.served():
        assert time.monotonic() < deadline, "the head was not picked up"
        time.sleep(0.02)
    return Served(service, runtime)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    started = serve(tmp_path_factory.mktemp("page"))
    yield started
    started.service.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_program("chromium-headless-shell", "chromium")
    # Playwright's own profile is a new folder for each launch, under this one.
    os.environ.setdefault("TMPDIR", str(tmp_path_factory.mktemp("browser")))
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=list(_BROWSER_FLAGS))
        yield launched
        launched.close()


@dataclass
class Visit:
    """One opened page, and everything that went wrong on it."""

    page: Page
    wrongs: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", lambda message: self.wrongs.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrongs.append(f"error: {error}"))
        self.page.on("requestfailed", lambda request: self.wrongs.append(f"failed: {request.url}"))

    def open(self, url: str) -> None:
        """Open the page and wait until it shows what the service told."""
        self.page.goto(url)
        self.page.wait_for_selector("html[data-ready]")

    def number(self, name: str) -> float:
        """Return a figure's exact value as the page holds it."""
        value = self.page.locator(f"[data-figure='{name}']").first.get_attribute("data-value")
        assert value is not None
        return float(value)
