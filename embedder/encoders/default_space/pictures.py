"""Reads the captioned pictures out of their packages."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedder.encoders.default_space.packages import Packages

_EMOJI_THINGS = {"Animals & Nature", "Food & Drink", "Activities", "Travel & Places", "Objects"}
_SKIN_TONE = re.compile("1f3f[b-f]")
# Clip art that shows things; left out are flags, arrows, icons, shapes and patterns.
_CLIP_ART_FOLDERS = (
    "animals",
    "buildings",
    "computer/hardware",
    "containers",
    "education",
    "electronics",
    "food",
    "office",
    "people",
    "plants",
    "recreation",
    "science",
    "tools",
    "transportation",
)
_CLIP_ART_SIGNS = (
    "recreation/games/cards",
    "recreation/games/chess",
    "recreation/games/dice",
    "transportation/aiga",
    "transportation/roadsigns",
)
# Titles that name a collection or a form, not what the picture shows: the file's name says it then.
_NO_TITLE = re.compile("clipart|icons|submission|sibmission|unnamed|untitled|http", re.IGNORECASE)
_NOT_WORDS = re.compile(
    r"\(?\bb ?(and|&) ?w\b\)?|\b(bw|ganson|architetto|francesco|rollandin|nicu|buculei)\b|\d+|[()]", re.IGNORECASE
)
_NO_KEYWORD = {"unsorted", "clip_art", "image", "media", "public domain", "png", "svg", ""}


@dataclass(frozen=True, slots=True)
class Picture:
    """One captioned picture.

    Attributes:
        path: the image file.
        source: `noto`, `fluent`, `clip-art` or `stamp`.
        texts: the caption, then other wordings of it.
        is_thing: whether it shows a thing, which a caption can be looked up for: not a flag, a letter, a sign or a face.
    """

    path: Path
    source: str
    texts: tuple[str, ...]
    is_thing: bool

    @property
    def caption_key(self) -> str:
        """The caption without case, article and punctuation: pictures of one key are held out together."""
        words = re.sub(r"[^a-z0-9 ]", "", self.texts[0].lower()).strip()
        return re.sub(r"^(a|an|the|some) ", "", words)


def read_pictures(packages: Packages) -> list[Picture]:
    """Read every captioned picture, in an order that does not depend on the file system."""
    return [*_read_emoji(packages), *_read_clip_art(packages), *_read_stamps(packages.stamps)]


def _read_emoji(packages: Packages) -> Iterator[Picture]:
    """Both styles of each emoji; flags and skin tones are left out, they say nothing about pictures of things."""
    names = {entry["hexcode"].lower(): entry for entry in json.loads((packages.names / "en/data.json").read_text())}
    for entry in json.loads((packages.noto / "emoji.json").read_text()):
        file = Path(entry["image"])
        named = names.get(file.stem) or names.get(file.stem.replace("-fe0f", ""))
        if named is None or entry["category"] == "Flags" or _SKIN_TONE.search(file.stem):
            continue
        caption = named["label"].replace(":", ",")
        is_thing = entry["category"] in _EMOJI_THINGS
        for source, path in (
            ("noto", packages.noto / "img/google/64" / file),
            ("fluent", packages.fluent / "assets" / f"{file.stem}.webp"),
        ):
            if path.exists():
                yield Picture(path, source, (caption,), is_thing)


def _read_clip_art(packages: Packages) -> Iterator[Picture]:
    for path in sorted(packages.clip_art.rglob("*.png")):
        name = path.relative_to(packages.clip_art).with_suffix("").as_posix()
        if not name.startswith(_CLIP_ART_FOLDERS) or name.startswith(_CLIP_ART_SIGNS):
            continue
        described = (packages.clip_art_titles / f"{name}.svg").read_bytes().decode("utf-8", "replace")
        title = _read_title(described) or _clean(path.stem)
        if len(title) < 2:
            continue
        found = (html.unescape(word).strip().lower() for word in re.findall(r"<rdf:li[^>]*>([^<]*)<", described))
        keywords = sorted(
            {word for word in found if not (word in _NO_KEYWORD or "hash" in word or "architetto" in word)}
        )
        texts = (title, f"{title} ({', '.join(keywords)})") if keywords else (title,)
        yield Picture(path, "clip-art", texts, is_thing=True)


def _read_title(described: str) -> str:
    found = re.search(r"<dc:title[^>]*>([^<]*)<", described)
    title = html.unescape(found.group(1)) if found else ""
    return "" if _NO_TITLE.search(title) else _clean(title)


def _clean(title: str) -> str:
    return " ".join(_NOT_WORDS.sub(" ", title.replace("_", " ")).lower().split())


def _read_stamps(folder: Path) -> Iterator[Picture]:
    for path in sorted(folder.rglob("*.png")):
        described = path.with_suffix(".txt")
        caption = described.read_text("utf-8", "replace").partition("\n")[0].strip() if described.exists() else ""
        if caption:
            place = path.relative_to(folder).parts
            yield Picture(path, "stamp", (caption,), is_thing=place[0] != "symbols" and "flags" not in place)
