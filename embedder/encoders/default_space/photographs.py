"""Photographs that no training sees, with captions written by hand for evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Twenty labels for naming photographs; the first sixteen are true of one photograph each, the rest of none.
LABELS = (
    "a cat",
    "a cup of coffee",
    "a rocket",
    "an astronaut",
    "a photographer with a camera",
    "a motorcycle",
    "a horse",
    "coins",
    "a brick wall",
    "grass",
    "gravel",
    "the moon",
    "a page of text",
    "a clock",
    "a flower",
    "a temple",
    "a dog",
    "a bicycle",
    "a pizza",
    "a ship",
)

# scikit-image's and scikit-learn's: file, caption, label or nothing.
_PACKAGED = (
    ("skimage/data/chelsea.png", "the face of a tabby cat", "a cat"),
    ("skimage/data/coffee.png", "a cup of coffee on a saucer", "a cup of coffee"),
    ("skimage/data/rocket.jpg", "a rocket on its launch pad at night", "a rocket"),
    ("skimage/data/astronaut.png", "a portrait of an astronaut in an orange space suit", "an astronaut"),
    ("skimage/data/camera.png", "a man taking a picture with a camera on a tripod", "a photographer with a camera"),
    ("skimage/data/motorcycle_left.png", "a red motorcycle in a garage", "a motorcycle"),
    ("skimage/data/horse.png", "the silhouette of a horse", "a horse"),
    ("skimage/data/coins.png", "rows of old coins", "coins"),
    ("skimage/data/brick.png", "a brick wall", "a brick wall"),
    ("skimage/data/grass.png", "grass on the ground", "grass"),
    ("skimage/data/gravel.png", "gravel, many small stones", "gravel"),
    ("skimage/data/moon.png", "the surface of the moon with craters", "the moon"),
    ("skimage/data/page.png", "a page of printed text", "a page of text"),
    ("skimage/data/clock_motion.png", "a blurred wall clock", "a clock"),
    ("sklearn/datasets/images/flower.jpg", "an orange dahlia flower", "a flower"),
    ("sklearn/datasets/images/china.jpg", "a Chinese temple above a lake", "a temple"),
    ("skimage/data/hubble_deep_field.jpg", "galaxies and stars in deep space", ""),
    ("skimage/data/retina.jpg", "the retina of an eye", ""),
    ("skimage/data/text.png", "handwritten formulas on paper", ""),
    ("skimage/data/ihc.png", "stained tissue cells under a microscope", ""),
)

# OpenCV's samples: file, caption.
_OPENCV = (
    ("alphamat/input_images/plant.jpg", "a green plant in a flower pot"),
    ("reg/home.png", "a brick house with a blue door"),
    ("dnn_superres/butterfly.png", "the wing of a monarch butterfly"),
    ("data/fruits.jpg", "sliced fruit, oranges, lemons and kiwi"),
    ("data/baboon.jpg", "the face of a mandrill monkey"),
    ("data/leuvenA.jpg", "old brick houses along a street"),
    ("data/squirrel_cls.jpg", "a squirrel on a branch"),
    ("data/home.jpg", "the tower of an old church"),
    ("data/aloeL.jpg", "an aloe plant in a pot"),
    ("data/board.jpg", "an electronic circuit board"),
    ("data/starry_night.jpg", "a painting of a starry night sky"),
    ("data/orange.jpg", "an orange"),
    ("data/chicky_512.png", "a small dog with its tongue out"),
    ("data/licenseplate_motion.jpg", "a car seen from behind"),
    ("data/smarties.png", "colourful candy"),
    ("data/messi5.jpg", "a football player kicking the ball"),
    ("data/aero1.jpg", "an aerial view of a town"),
    ("data/right.jpg", "two books on a table"),
    ("data/notes.png", "sheet music"),
    ("data/graf1.png", "graffiti painted on a wall"),
    ("data/building.jpg", "a modern office building"),
    ("hfs/data/000.jpg", "a robin, a small bird with an orange breast"),
    ("hfs/data/001.jpg", "a lake surrounded by woods"),
    ("hfs/data/002.jpg", "a lone tree on a green field"),
    ("data/sudoku.png", "a sudoku puzzle"),
    ("data/butterfly.jpg", "a black and white butterfly on a leaf"),
    ("data/apple.jpg", "an apple"),
    ("data/imageTextN.png", "a paragraph of text"),
    ("ximgproc/stanford.png", "a street map"),
    ("data/rubberwhale1.png", "wooden toys and fabric"),
    ("data/basketball1.png", "two people playing with a ball in an office"),
    ("data/ml.png", "a robot with books and a graduation cap"),
    ("data/HappyFish.jpg", "a cartoon of a smiling fish"),
)


@dataclass(frozen=True, slots=True)
class Photograph:
    """One photograph.

    Attributes:
        path: the image file.
        caption: what it shows.
        label: which of `LABELS` is true of it; empty where none is.
    """

    path: Path
    caption: str
    label: str


def packaged_photographs() -> list[Photograph]:
    """The twenty of scikit-image and scikit-learn, from the installed packages."""
    import skimage
    import sklearn

    roots = {"skimage": Path(skimage.__file__).parent, "sklearn": Path(sklearn.__file__).parent}
    found = []
    for name, caption, label in _PACKAGED:
        package, _, file = name.partition("/")
        found.append(Photograph(roots[package] / file, caption, label))
    return found


def opencv_photographs(folder: Path) -> list[Photograph]:
    """The thirty-three of OpenCV's samples, under the unpacked package's folder."""
    return [Photograph(folder / name, caption, "") for name, caption in _OPENCV]
