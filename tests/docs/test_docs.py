"""What the docs say is so: flags, commands, the README's example, and the links between pages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks.common.overview import PAGE, overview
from embedder.config import ServeSettings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("clients/python/*.md")])


def test_every_flag_stands_in_the_docs() -> None:
    operations = (ROOT / "docs/operations.md").read_text()
    missing = [name for name in ServeSettings.model_fields if f"`--{name.replace('_', '-')}`" not in operations]
    assert not missing


def test_docs_describe_each_flag_as_help_does() -> None:
    operations = (ROOT / "docs/operations.md").read_text()
    stale = [name for name, field in ServeSettings.model_fields.items() if f"| {field.description} |" not in operations]
    assert not stale


def test_every_command_stands_in_the_docs() -> None:
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    text = "".join(page.read_text() for page in PAGES)
    assert not [command for command in commands if command not in text]


def test_every_command_starts_and_explains_itself() -> None:
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for command in commands:
        ended = subprocess.run(
            [str(Path(sys.executable).parent / command), "--help"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert command in ended.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?(?:\s\"[^\"]*\")?\)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def test_page_of_kept_results_says_what_they_say() -> None:
    assert PAGE.read_text() == overview()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_figures_that_name_a_kept_result_are_its_figures(page: Path) -> None:
    """A link such as [1.5](benchmarks/results/encode_text-2026-12-01.json "vs_openvino_bf16") quotes a kept figure, rounded."""
    quoted = re.findall(r"\[([\d.,]+)[^\]]*\]\(([^)\s]*benchmarks/results/[^)\s]+\.json) \"(\w+)\"\)", page.read_text())
    for shown, file, key in quoted:
        kept = json.loads((page.parent / file).read_text())["keys"][key]
        digits = len(shown.partition(".")[2])
        assert float(shown.replace(",", "")) == round(kept, digits), (shown, file, key, kept)


def test_example_settings_file_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"```toml\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    assert block is not None
    settings = ServeSettings(bearer_token="secret", **tomllib.loads(block[1]))
    assert settings.cache_limit_bytes == 200 << 30


def test_wire_is_held_against_the_released_one() -> None:
    assert (ROOT / "protos/released.binpb").stat().st_size > 0
