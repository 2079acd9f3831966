"""The drift report as one page that needs nothing beside it: figures, what changes for each label, and pictures for light and dark."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from embedder.spaces.drift import DriftReport, HeadComparison
from embedder_heads.metric import Metric

_MOST_LABELS = 20
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5f6670; --line: #e3e5e8; --ground: #ffffff;
  --bad: #b3261e; --good: #1b6e3c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a3abb6; --line: #353a41; --ground: #16181b;
    --bad: #f2938c; --good: #7fd6a2; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--ground); }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .3rem 1rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); }
.number { text-align: right; } .soft { color: var(--soft); } .worse { color: var(--bad); } .better { color: var(--good); }
img { max-width: 100%; height: auto; } code { overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, slots=True)
class _Palette:
    """Colours of a picture."""

    ground: str
    ink: str
    soft: str
    old: str
    new: str
    map: str


_LIGHT = _Palette("#ffffff", "#1c1e21", "#8a8f98", "#8a8f98", "#1f5fa8", "Blues")
_DARK = _Palette("#16181b", "#e8eaed", "#8f98a3", "#8f98a3", "#7db4f0", "cividis")

Draw = Callable[[_Palette], Figure]


def drift_page(report: DriftReport) -> str:
    """Return the page."""
    title = html.escape(f"From {report.old} to {report.new}")
    overlap = report.overlap
    figures = [
        (f"neighbour overlap at {report.k}", overlap.value, "share of neighbours that stay; falls as the sample grows"),
        ("linear CKA", report.cka, "likeness of the two geometries up to rotation and scale; 1 is the same"),
        ("rank correlation of cosines", report.rank_correlation, "Spearman's, of pairs drawn at random"),
    ]
    rows = [[name, f"{value:.4f}", says] for name, value, says in figures]
    heads = (
        _heads(report.heads) if report.heads else "<p class=soft>No labelled file was given: no heads are compared.</p>"
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
<h1>{title}</h1>
<p>Of a content's {report.k} nearest neighbours in the old space, {overlap.value:.1%} are among its {report.k} nearest in the new one
(95 % interval {overlap.low:.1%} to {overlap.high:.1%}); neighbours drawn at random would share {report.chance:.2%}. Measured by
exact search among {report.pairs:,} contents that both spaces hold: those of the smallest hashes, a uniform sample. The old space
holds {report.old_entries:,}.</p>
{_picture("How many neighbours stay", lambda palette: _overlaps(report, palette))}
{_table(["figure", "#value", "what it says"], rows)}
{heads}
<h2>Spaces</h2>
<p>{html.escape(report.old)} <code>{report.old_digest}</code><br>{html.escape(report.new)} <code>{report.new_digest}</code></p>
</html>
"""


def _heads(heads: HeadComparison) -> str:
    change, agreement = heads.accuracy_change, heads.agreement
    metrics = [_metric_row(name, heads.old[name], heads.new[name]) for name in heads.old if name in heads.new]
    labels = [
        [
            html.escape(one.label),
            f"{one.examples:,}",
            f"{one.old_f1:.3f}",
            f"{one.new_f1:.3f}",
            _signed(f"{one.new_f1 - one.old_f1:+.3f}"),
            f"{one.gained:,}",
            f"{one.lost:,}",
        ]
        for one in heads.labels
    ]
    flips = _picture("Where decisions go", lambda palette: _flips(heads, palette)) if heads.flips is not None else ""
    return f"""<h2>What heads make of it</h2>
<p>A linear head was trained in each space on the same examples and folds ({html.escape(change.method)}). The accuracy of the new
space's head is {_signed(f"{change.value * 100:+.2f}")} points off the old one's (95 % interval {change.low * 100:+.2f} to
{change.high * 100:+.2f}, {change.samples:,} examples), and both decide alike on {agreement.value:.1%}.</p>
{_table(["figure", "#old", "#new", "95 % interval of the new"], metrics)}
<h2>Label by label</h2>
{_picture("F1 of each label in both spaces", lambda palette: _labels(heads, palette))}
{_table(["label", "#examples", "#F1 old", "#F1 new", "#change", "#gained", "#lost"], labels)}
<p class=soft>Gained: examples of the label that only the new space's head finds. Lost: that only the old one's does.</p>
{flips}"""


def _table(columns: list[str], rows: list[list[str]]) -> str:
    """Lay a table out; a column whose name begins with # holds numbers."""
    kinds = [" class=number" if name.startswith("#") else "" for name in columns]
    head = "".join(f"<th{kind}>{name.lstrip('#')}</th>" for name, kind in zip(columns, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<div class=scroll><table><tr>{head}</tr>{body}</table></div>"


def _metric_row(name: str, old: Metric, new: Metric) -> list[str]:
    return [html.escape(name), f"{old.value:.4f}", f"{new.value:.4f}", f"{new.low:.4f} to {new.high:.4f}"]


def _signed(number: str) -> str:
    kind = "soft" if float(number) == 0 else "worse" if number.startswith("-") else "better"
    return f"<span class={kind}>{number}</span>"


def _picture(title: str, draw: Draw) -> str:
    light, dark = (_png(draw(palette)) for palette in (_LIGHT, _DARK))
    return (
        f'<h2>{html.escape(title)}</h2><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{html.escape(title)}"></picture>'
    )


def _png(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=figure.get_facecolor())
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _figure(width: float, height: float, palette: _Palette) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=140, layout="constrained", facecolor=palette.ground)
    axes = figure.add_subplot(facecolor=palette.ground)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(palette.soft)
    axes.tick_params(colors=palette.ink)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(palette.ink)
    return figure, axes


def _overlaps(report: DriftReport, palette: _Palette) -> Figure:
    figure, axes = _figure(6.8, 3.4, palette)
    counts = np.bincount(np.rint(report.overlaps * report.k).astype(np.intp), minlength=report.k + 1)
    axes.bar(np.arange(report.k + 1), counts, color=palette.new, width=0.85)
    axes.axvline(
        report.overlap.value * report.k, color=palette.ink, linewidth=1.2, label=f"mean {report.overlap.value:.1%}"
    )
    axes.axvline(
        report.chance * report.k, color=palette.soft, linewidth=1.2, linestyle="--", label=f"chance {report.chance:.2%}"
    )
    axes.set(xlabel=f"neighbours of {report.k} that stay", ylabel="contents")
    axes.legend(frameon=False, labelcolor=palette.ink)
    return figure


def _labels(heads: HeadComparison, palette: _Palette) -> Figure:
    shown = heads.labels[:_MOST_LABELS]  # what changes for the worse comes first
    figure, axes = _figure(6.8, 1.2 + 0.34 * len(shown), palette)
    rows = np.arange(len(shown))[::-1]
    old, new = np.array([one.old_f1 for one in shown]), np.array([one.new_f1 for one in shown])
    axes.hlines(rows, np.minimum(old, new), np.maximum(old, new), color=palette.soft, linewidth=1.4)
    axes.plot(old, rows, marker="o", linestyle="none", color=palette.old, label="old space")
    axes.plot(new, rows, marker="o", linestyle="none", color=palette.new, label="new space")
    axes.set_yticks(rows, [_short(one.label) for one in shown])
    axes.set(xlabel="F1 on held-out examples")
    axes.legend(frameon=False, labelcolor=palette.ink, loc="best")
    return figure


def _flips(heads: HeadComparison, palette: _Palette) -> Figure:
    """Draw how many examples the old head gives one label and the new head another; those that stay are left out."""
    assert heads.flips is not None
    names = sorted(one.label for one in heads.labels)
    counts = heads.flips.copy()
    np.fill_diagonal(counts, 0)
    kept = np.sort(np.argsort(-(counts.sum(axis=0) + counts.sum(axis=1)), kind="stable")[:_MOST_LABELS])
    counts = counts[np.ix_(kept, kept)]
    size = 2.4 + 0.5 * len(kept)
    figure, axes = _figure(size, 0.92 * size, palette)
    axes.imshow(counts, cmap=palette.map, vmin=0)
    axes.spines[:].set_visible(False)
    labels = [_short(names[row]) for row in kept]
    axes.set_xticks(range(len(kept)), labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(kept)), labels)
    axes.set(xlabel="new head says", ylabel="old head says")
    most = max(1, int(counts.max()))
    for row, column in np.argwhere(counts > 0).tolist():
        is_bright = counts[row, column] > 0.55 * most
        colour = ("white" if palette is _LIGHT else "black") if is_bright else palette.ink
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
    return figure


def _short(label: str) -> str:
    # A dollar sign would start a formula.
    return (label if len(label) <= 24 else f"{label[:23]}…").replace("$", r"\$")
