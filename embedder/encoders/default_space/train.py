"""Trains the default space's image head and measures it: `python -m embedder.encoders.default_space.train --data FOLDER`."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from open_clip.model import CustomTextCLIP
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from timm.data.imagenet_info import ImageNetInfo
from torch import nn
from torch.nn import functional

from embedder.encoders.default_space.evaluate import (
    Captioned,
    HeldOut,
    hold_out,
    measure_retrieval,
    measure_sentences,
    name_images,
    summarize,
)
from embedder.encoders.default_space.features import embed_texts, keep, pool_images
from embedder.encoders.default_space.fit import CaptionedFeatures, HeadSettings, ImageClasses, fit_head
from embedder.encoders.default_space.head_file import write_head
from embedder.encoders.default_space.image_head import ImageHead
from embedder.encoders.default_space.model import CLASSES, HEAD_FILE, build_towers, read_image_head
from embedder.encoders.default_space.model_card import render_card
from embedder.encoders.default_space.packages import Packages, fetch_packages
from embedder.encoders.default_space.photographs import LABELS, Photograph, opencv_photographs, packaged_photographs
from embedder.encoders.default_space.pictures import Picture, read_pictures
from embedder.encoders.default_space.preparation import measure_preparation

TRAININGS = {"permissive": ("noto", "fluent", "clip-art"), "with_stamps": ("noto", "fluent", "clip-art", "stamp")}
POOLS = {"stamps": ("stamp",), "emoji": ("noto",), "stamps_and_emoji": ("stamp", "noto")}
SHIPPED = "permissive"
SPLITS = 5
# Clip art is titled by hundreds of hands, in several languages.
_CLIP_ART_NOISE = 2.0


@dataclass(frozen=True, slots=True)
class Album:
    """Every captioned picture as the towers see it.

    Attributes:
        pictures: n pictures.
        features: (n, 1280) float32.
        captions: (n, 384) float32, unit vectors of the captions alone, which retrieval looks for.
        targets: (n, 384) float32, unit vectors of all wordings together, which training aims at.
    """

    pictures: list[Picture]
    features: torch.Tensor
    captions: torch.Tensor
    targets: torch.Tensor

    def select(self, sources: Sequence[str], without: frozenset[str] = frozenset()) -> CaptionedFeatures:
        """Pictures of these sources whose caption is not among the keys `without`."""
        chosen = [
            index
            for index, picture in enumerate(self.pictures)
            if picture.source in sources and picture.caption_key not in without
        ]
        noise = [_CLIP_ART_NOISE if self.pictures[index].source == "clip-art" else 1.0 for index in chosen]
        return CaptionedFeatures(self.features[chosen], self.targets[chosen], torch.tensor(noise))


@dataclass(frozen=True, slots=True)
class Bench:
    """What the trainings are measured on besides held-out captions.

    Attributes:
        photographs: name of a set to its photographs.
        captioned: the same sets as the towers see them.
        labels: (20, 384) float32, unit vectors of `LABELS`.
    """

    photographs: dict[str, list[Photograph]]
    captioned: dict[str, Captioned]
    labels: torch.Tensor


def main(
    data: Annotated[Path, typer.Option(help="Folder that keeps the packages and features; about 2 GB.")],
    out: Annotated[Path, typer.Option(help="Folder for the head, the metrics and the card.")] = HEAD_FILE.parent,
) -> None:
    """Fetch the data, fit both trainings, measure them, and write head, metrics.json and MODEL_CARD.md."""
    started = time.monotonic()
    console = Console()
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bars:
        model, classifier = build_towers()
        packages = _fetch(data, bars)
        classes = ImageClasses(classifier, _embed_class_names(model))
        album = _load_album(packages, model, data, bars)
        bench = _load_bench(packages, model, bars)
        metrics: dict[str, Any] = {
            "hardware": "AMD EPYC, 2 cores, no GPU",
            "date": time.strftime("%Y-%m-%d"),
            "settings": asdict(HeadSettings()),
            "splits": SPLITS,
            "trainings": _measure_splits(album, classes, bars),
        }
        for name, sources in TRAININGS.items():
            pictures = album.select(sources)
            file = out / HEAD_FILE.name if name == SHIPPED else data / f"{name}.safetensors"
            write_head(fit_head(pictures, classes, HeadSettings()).state_dict(), file)
            metrics["trainings"][name] |= {
                "pictures": dict(Counter(picture.source for picture in album.pictures if picture.source in sources)),
                "photographs": _measure_photographs(read_image_head(file, classifier), bench),
            }
        metrics["sts_b_test_spearman"] = round(
            measure_sentences(packages.sentences / "sts-test.csv", lambda texts: embed_texts(model, texts)), 4
        )
    if out == HEAD_FILE.parent:
        metrics["preparation"] = measure_preparation()
    shipped = (out / HEAD_FILE.name).read_bytes()
    metrics["shipped"] = {"training": SHIPPED, "bytes": len(shipped), "sha256": hashlib.sha256(shipped).hexdigest()}
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    (out / "MODEL_CARD.md").write_text(render_card(metrics))
    console.print(
        f"wrote {HEAD_FILE.name}, metrics.json and MODEL_CARD.md to {out} in {time.monotonic() - started:.0f} s"
    )


def _fetch(data: Path, bars: Progress) -> Packages:
    task = bars.add_task("packages", total=len(Packages.__dataclass_fields__))

    def step(name: str) -> None:
        bars.update(task, description=f"package {name}")
        bars.advance(task)

    return fetch_packages(data, step)


def _embed_class_names(model: CustomTextCLIP) -> torch.Tensor:
    """Embed the classifier's classes by their names, their first name and their definition; returns (1000, 384)."""
    info = ImageNetInfo()
    names = [info.index_to_description(index) for index in range(CLASSES)]
    defined = [info.index_to_description(index, detailed=True) for index in range(CLASSES)]
    wordings = (names, [name.partition(",")[0] for name in names], defined)
    return functional.normalize(torch.stack([embed_texts(model, texts) for texts in wordings]).sum(dim=0), dim=1)


def _load_album(packages: Packages, model: CustomTextCLIP, data: Path, bars: Progress) -> Album:
    pictures = read_pictures(packages)
    task = bars.add_task("pictures", total=len(pictures))
    paths = [picture.path for picture in pictures]
    features = keep(
        data / "features.npz",
        [str(path) for path in paths],
        lambda: pool_images(model.visual.trunk, paths, lambda count: bars.advance(task, count)),
    )
    bars.update(task, completed=len(pictures))
    readable = torch.nonzero(features[:, 0].isfinite()).flatten().tolist()
    pictures = [pictures[index] for index in readable]
    captions = embed_texts(model, [picture.texts[0] for picture in pictures])
    targets = functional.normalize(captions + embed_texts(model, [picture.texts[-1] for picture in pictures]), dim=1)
    return Album(pictures, features[readable], captions, targets)


def _load_bench(packages: Packages, model: CustomTextCLIP, bars: Progress) -> Bench:
    sets = {"packaged": packaged_photographs(), "opencv": opencv_photographs(packages.photographs)}
    task = bars.add_task("photographs", total=sum(map(len, sets.values())))
    captioned = {
        name: Captioned(
            pool_images(model.visual.trunk, [photo.path for photo in photos], lambda count: bars.advance(task, count)),
            embed_texts(model, [photo.caption for photo in photos]),
        )
        for name, photos in sets.items()
    }
    return Bench(sets, captioned, embed_texts(model, LABELS))


def _measure_splits(album: Album, classes: ImageClasses, bars: Progress) -> dict[str, dict[str, Any]]:
    """Fit and measure each training on each split; all pools' held-out captions are left out of one fit."""
    keys = [picture.caption_key for picture in album.pictures]
    pools = {
        name: [i for i, picture in enumerate(album.pictures) if picture.is_thing and picture.source in sources]
        for name, sources in POOLS.items()
    }
    task = bars.add_task("splits", total=SPLITS * len(TRAININGS))
    measured: dict[str, dict[str, list[dict[str, float]]]] = {name: {pool: [] for pool in pools} for name in TRAININGS}
    for seed in range(SPLITS):
        chosen = {name: hold_out(keys, pool, seed) for name, pool in pools.items()}
        without = frozenset[str]().union(*(choice.keys for choice in chosen.values()))
        for name, sources in TRAININGS.items():
            head = fit_head(album.select(sources, without), classes, HeadSettings())
            for pool, choice in chosen.items():
                measured[name][pool].append(_measure_held_out(head, album, choice))
            bars.advance(task)
    return {
        name: {"held_out_captions": {pool: summarize(splits) for pool, splits in by_pool.items()}}
        for name, by_pool in measured.items()
    }


def _measure_held_out(head: nn.Module, album: Album, choice: HeldOut) -> dict[str, float]:
    return measure_retrieval(head, Captioned(album.features[choice.test], album.captions[choice.test]))


def _measure_photographs(head: ImageHead, bench: Bench) -> dict[str, Any]:
    retrieval = {
        name: {figure: round(value, 3) for figure, value in measure_retrieval(head, captioned).items()}
        | {"count": len(captioned.features)}
        for name, captioned in bench.captioned.items()
    }
    named = name_images(head, bench.captioned["packaged"].features, bench.labels)
    answers = {
        photo.path.name: {"right": photo.label, "given": LABELS[index]}
        for photo, index in zip(bench.photographs["packaged"], named, strict=True)
        if photo.label
    }
    right = sum(answer["right"] == answer["given"] for answer in answers.values())
    return {"retrieval": retrieval, "naming": {"right": right, "of": len(answers), "answers": answers}}


if __name__ == "__main__":
    typer.run(main)
