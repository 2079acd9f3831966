"""The report page of a trained head: what it gets right, how honest its scores are, and how it learned, as HTML and PNG."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve

from embedder_heads.head_file import HeadManifest
from embedder_heads.kinds import Task
from embedder_heads.training.classification import HeldOut, Trained

_MOST_LABELS = 20
_BINS = 10
_BLUE, _GREY, _RED = "#1f5fa8", "#8a8f98", "#c0392b"


def write_report(trained: Trained, manifest: HeadManifest, folder: Path) -> Path:
    """Write `report.html` and a PNG for each picture into an existing folder.

    Args:
        trained: the head with its held-out scores.
        manifest: as published, with its version.
        folder: where the files go.
    Returns:
        The path of the page.
    """
    pictures: dict[str, tuple[str, Figure]] = {}
    if trained.held_out is not None:
        if manifest.task is Task.REGRESSION:
            pictures["truth"] = ("Predicted against true values", _truth(trained.held_out, manifest))
        else:
            if manifest.task is Task.SINGLE_LABEL:
                pictures["confusion"] = ("Which labels are taken for which", _confusion(trained.held_out, manifest))
            pictures["calibration"] = ("How honest the scores are", _calibration(trained.held_out, manifest))
            pictures["precision_recall"] = ("Precision and recall", _precision_recall(trained.held_out, manifest))
    if trained.curve:
        pictures["learning"] = ("How it learned", _learning(trained))
    for name, (_, figure) in pictures.items():
        figure.savefig(folder / f"{name}.png")
    page = folder / "report.html"
    page.write_text(_page(manifest, {name: title for name, (title, _) in pictures.items()}), encoding="utf-8")
    return page


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _confusion(held_out: HeldOut, manifest: HeadManifest) -> Figure:
    """Draw true labels against predicted ones, of the commonest labels when there are very many."""
    true, predicted = held_out.targets.argmax(axis=1), held_out.predicted.argmax(axis=1)
    counts = np.zeros((len(manifest.labels),) * 2, np.int64)
    np.add.at(counts, (true, predicted), 1)
    kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:_MOST_LABELS])
    counts = counts[np.ix_(kept, kept)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_short(manifest.labels[row]) for row in kept]
    size = 2.6 + 0.55 * len(kept)
    figure, axes = _figure(size, size * 0.92)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(kept)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(kept)), names)
    axes.set(xlabel="predicted", ylabel="true")
    for row, column in np.argwhere(counts > 0).tolist():
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
    return figure


def _calibration(held_out: HeldOut, manifest: HeadManifest) -> Figure:
    """Draw how often scores of a size are right, and how many there are of each size."""
    if manifest.task is Task.SINGLE_LABEL:
        scores = held_out.scores.max(axis=1)
        right = held_out.targets[np.arange(len(scores)), held_out.scores.argmax(axis=1)]
    else:
        scores, right = held_out.scores.ravel(), held_out.targets.ravel()
    bins = np.minimum((scores * _BINS).astype(np.intp), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    used = counts > 0
    mean = np.bincount(bins, scores, _BINS)[used] / counts[used]
    share = np.bincount(bins, right, _BINS)[used] / counts[used]
    figure = Figure(figsize=(5.2, 5.4), dpi=140, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="honest")
    top.plot(mean, share, color=_BLUE, marker="o", label="this head")
    top.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    top.legend(frameon=False, loc="upper left")
    bottom.bar((np.arange(_BINS) + 0.5) / _BINS, counts, width=0.9 / _BINS, color=_BLUE)
    bottom.set(xlabel="score", ylabel="how many")
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _precision_recall(held_out: HeldOut, manifest: HeadManifest) -> Figure:
    figure, axes = _figure(6.4, 4.6)
    counts = held_out.targets.sum(axis=0)
    for label in np.sort(np.argsort(-counts, kind="stable")[:10]).tolist():
        targets, scores = held_out.targets[:, label], held_out.scores[:, label]
        if not targets.any():
            continue
        precision, recall, _ = precision_recall_curve(targets, scores)
        name = f"{_short(manifest.labels[label])} (AP {average_precision_score(targets, scores):.3f})"
        [line] = axes.plot(recall, precision, linewidth=1.4, label=name)
        if manifest.thresholds:
            given = scores >= manifest.thresholds[label]
            hits = float(targets[given].sum())
            axes.plot(hits / targets.sum(), hits / max(given.sum(), 1), marker="o", color=line.get_color())
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def _truth(held_out: HeldOut, manifest: HeadManifest) -> Figure:
    figure, axes = _figure(5.2, 5.0)
    for column, label in enumerate(manifest.labels[:10]):
        axes.scatter(held_out.targets[:, column], held_out.scores[:, column], s=8, alpha=0.5, label=_short(label))
    ends = [float(held_out.targets.min()), float(held_out.targets.max())]
    axes.plot(ends, ends, color=_GREY, linestyle="--", linewidth=1, label="right")
    axes.set(xlabel="true", ylabel="predicted, held out")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _learning(trained: Trained) -> Figure:
    figure, axes = _figure(6.4, 4.2)
    steps, training, validation = np.array(trained.curve, np.float64).T
    axes.plot(steps, training, color=_GREY, label="training, on mixed examples")
    axes.plot(steps, validation, color=_BLUE, label="validation, calibrated")
    best = int(np.argmin(validation))
    axes.plot(steps[best], validation[best], marker="o", color=_RED, linestyle="none", label="kept")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend(frameon=False)
    return figure


def _page(manifest: HeadManifest, pictures: dict[str, str]) -> str:
    def escaped(value: object) -> str:
        return html.escape(str(value))

    figures = "".join(
        f"<tr><td>{escaped(name)}</td><td>{m.value:.4f}</td><td>{m.low:.4f} to {m.high:.4f}</td><td>{m.samples:,}</td>"
        f"<td>{escaped(m.method)}</td></tr>"
        for name, m in manifest.metrics.items()
    )
    measured = (
        f"<table><tr><th>figure</th><th>value</th><th>95 % interval</th><th>examples</th><th>how</th></tr>{figures}</table>"
        if figures
        else "<p>Nothing was held out, so nothing was measured.</p>"
    )
    training = "".join(f"<tr><td>{escaped(k)}</td><td>{escaped(v)}</td></tr>" for k, v in manifest.training.items())
    drawn = "".join(f'<h2>{title}</h2><img src="{name}.png" alt="{title}">' for name, title in pictures.items())
    title = f"{escaped(manifest.name)}@{manifest.version or 'unpublished'}"
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #1c1e21; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid #e3e5e8; }}
img {{ max-width: 100%; }} code {{ overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1>
<p>A {escaped(manifest.kind)} head of {len(manifest.labels)} labels ({escaped(manifest.task)}), made
{escaped(manifest.created)}. Every figure is
measured on examples that the head that gave the score did not learn from.</p>
{measured}{drawn}
<h2>How it was trained</h2><table>{training}<tr><td>temperature</td><td>{manifest.temperature:.4g}</td></tr></table>
<p>Space <code>{escaped(manifest.space_digest)}</code><br>training data <code>{escaped(manifest.data_digest)}</code></p>
</html>
"""


def _short(label: str) -> str:
    # A dollar sign would start a formula.
    return (label if len(label) <= 24 else f"{label[:23]}…").replace("$", r"\$")
