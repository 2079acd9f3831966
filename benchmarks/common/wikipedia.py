"""Wikipedia pages of gensim's test data as plain passages; `make install` brings the package, whose code is never imported."""

from __future__ import annotations

import bz2
import html
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from embedder_heads.index.passages import split_passages

_FILE = "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
_INNERMOST_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
_INNERMOST_TABLE = re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)
_FILE_LINK = re.compile(r"\[\[(?:File|Image|Category):(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]", re.IGNORECASE)
_DROPPED = (
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"<ref[^>/]*/>", re.IGNORECASE),
    re.compile(r"<(ref|gallery|math|timeline|table|source|syntaxhighlight)\b[^>]*>.*?</\1>", re.DOTALL | re.IGNORECASE),
)
_LAST_SECTIONS = re.compile(
    r"^==\s*(?:See also|References|Notes|Further reading|External links|Bibliography|Citations)\s*==.*",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Passage:
    """A passage, its page's title first."""

    id: str
    page: str
    text: str


def read_passages(max_words: int = 100) -> list[Passage]:
    """Cut every page into passages; pages that only lead to another one have none.

    Raises:
        FileNotFoundError: gensim is not installed.
    """
    return [
        Passage(f"{title}#{number}", title, f"{title}: {text}")
        for title, source in _pages()
        for number, text in enumerate(split_passages(plain_text(source), max_words=max_words))
        if len(text.split()) > 5
    ]


def plain_text(source: str) -> str:
    """Return a page's running text: no tables, notes, pictures or markup."""
    text = html.unescape(_LAST_SECTIONS.sub("", source))
    for pattern in _DROPPED:
        text = pattern.sub("", text)
    for pattern, replacement in ((_INNERMOST_TEMPLATE, _template), (_INNERMOST_TABLE, "")):
        changed = -1
        while changed:
            text, changed = pattern.subn(replacement, text)
    text = _FILE_LINK.sub("", text)
    text = re.sub(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1", text)
    text = re.sub(r"\[https?://\S+\s*([^\]]*)\]", r"\1", text)
    text = re.sub(r"<[^>]+>|'{2,}|\(\s*[;,]?\s*\)", "", text)
    return re.sub(r"^=+\s*(.*?)\s*=+\s*$|^[*#:;]+\s*", r"\n\1 ", text, flags=re.MULTILINE)


def _pages() -> Iterator[tuple[str, str]]:
    found = importlib.util.find_spec("gensim")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("gensim's test data is not installed: pip install --no-deps gensim==4.4.0")
    with bz2.open(Path(found.submodule_search_locations[0]) / _FILE) as file:
        root = ElementTree.parse(file).getroot()
    space = root.tag[: root.tag.index("}") + 1]
    for page in root.iter(f"{space}page"):
        if page.find(f"{space}redirect") is None:
            title, text = page.findtext(f"{space}title"), page.findtext(f"{space}revision/{space}text")
            yield title or "", text or ""


def _template(match: re.Match[str]) -> str:
    name, *values = [part.strip() for part in match[1].split("|")]
    if name.lower() in ("convert", "cvt") and len(values) >= 2:
        return " ".join(values[:2])
    return values[0] if name.lower() in ("lang", "nowrap", "circa", "frac", "transl") and len(values) == 1 else ""
