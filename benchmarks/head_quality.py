"""Our heads beside scikit-learn's classifiers on the same vectors and the same folds: BBC topics.

With --full also SpamAssassin's mails (AUC over five folds) and Fashion-MNIST (6,000 training images, 2,000 test images).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from benchmarks.common.labelled import bbc_topics, fashion, spam_mails
from benchmarks.common.run import Result, main
from embedder.encoders.base import Encoder
from embedder.encoders.load import load_encoder
from embedder.media.limits import MediaLimits
from embedder_heads import Head, Task
from embedder_heads.training.classification import train_head
from embedder_heads.training.evaluation import evaluate_head
from embedder_heads.training.examples import Examples, make_examples
from embedder_heads.training.folds import split_folds
from embedder_heads.training.options import HeadChoice, TrainOptions

_SPACE = bytes(32)
_FOLDS = 5
_SEEDS = (0, 1, 2)
_BATCH = 64
_FASHION = (6_000, 2_000)

Floats = npt.NDArray[np.float32]
Row = tuple[str, str, str]
_PEERS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: LogisticRegression(C=10.0, max_iter=1000),
    "RBF SVM": lambda: SVC(C=10.0, gamma="scale"),
    "kNN, k=10": lambda: KNeighborsClassifier(10, metric="cosine"),
}


def measure(full: bool, console: Console) -> Result:
    encoder = load_encoder("default", device="cpu", limits=MediaLimits())
    try:
        topics = bbc_topics()
        examples = make_examples(_texts(encoder, topics.contents, console), list(topics.labels), task=Task.SINGLE_LABEL)
        rows, keys = _bbc(examples, console)
        keys |= {"spam_auc": None, "fashion_accuracy": None}
        if full:
            for more_rows, more_keys in (_spam(encoder, console), _fashion(encoder, console)):
                rows += more_rows
                keys.update(more_keys)
    finally:
        encoder.close()
    notes = (
        f"BBC: {len(examples)} unique articles, at most 256 tokens, {_FOLDS} stratified folds, the mean over split seeds {_SEEDS} and "
        "the deviation between them. Ours chooses kind and strength on the other folds; the peers' settings are fixed.",
        "scikit-learn: LogisticRegression(C=10), SVC(C=10, gamma='scale'), KNeighborsClassifier(10, cosine).",
    )
    return Result(columns=("contender", "what", "figure"), rows=rows, keys=keys, notes=notes)


def _bbc(examples: Examples, console: Console) -> tuple[list[Row], dict[str, float | None]]:
    found: dict[str, list[float]] = {}
    for seed in _SEEDS:
        console.print(f"BBC topics, split seed {seed}")
        trained = train_head(examples, name="topic", space_digest=_SPACE, options=TrainOptions(seed=seed))
        found.setdefault("ours", []).append(trained.head.manifest.metrics["accuracy"].value)
        for name, make in _PEERS.items():
            right = np.zeros(len(examples), np.bool_)
            for rows, held_out in split_folds(examples, _FOLDS, seed=seed):
                model = make().fit(examples.vectors[rows], examples.classes[rows])
                right[held_out] = model.predict(examples.vectors[held_out]) == examples.classes[held_out]
            found.setdefault(name, []).append(float(right.mean()))
    table = [
        (name, "BBC topics, accuracy", f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}")
        for name, values in found.items()
    ]
    best = max(statistics.fmean(found[name]) for name in _PEERS)
    ours = statistics.fmean(found["ours"])
    return table, {"bbc_accuracy": ours, "bbc_vs_best_peer": ours / best}


def _spam(encoder: Encoder, console: Console) -> tuple[list[Row], dict[str, float]]:
    mails = spam_mails()
    examples = make_examples(_texts(encoder, mails.contents, console), list(mails.labels), task=Task.SINGLE_LABEL)
    console.print("spam, five folds")
    trained = train_head(examples, name="spam", space_digest=_SPACE)
    metric = trained.head.manifest.metrics["auc"]
    scores = np.zeros(len(examples))
    for rows, held_out in split_folds(examples, _FOLDS, seed=0):
        model = LogisticRegression(C=10.0, max_iter=1000).fit(examples.vectors[rows], examples.classes[rows])
        scores[held_out] = model.decision_function(examples.vectors[held_out])
    peer = float(roc_auc_score(examples.classes, scores))
    what = f"spam among {len(examples):,} unique mails, AUC"
    interval = f"{metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f})"
    found = [(f"ours, {trained.head.manifest.kind}", what, interval), ("logistic regression", what, f"{peer:.4f}")]
    return found, {"spam_auc": metric.value}


def _fashion(encoder: Encoder, console: Console) -> tuple[list[Row], dict[str, float]]:
    parts = [fashion(part, count) for part, count in zip(("train", "t10k"), _FASHION, strict=True)]
    train, test = [
        make_examples(_images(encoder, part.contents, console), list(part.labels), task=Task.SINGLE_LABEL)
        for part in parts
    ]
    console.print("Fashion-MNIST")
    what = f"Fashion-MNIST, {len(train):,} to learn from, {len(test):,} of the test part, accuracy"
    rows: list[Row] = []
    best = 0.0
    for kind in (HeadChoice.AUTO, HeadChoice.MLP):
        head: Head = train_head(
            train, name="garment", space_digest=_SPACE, options=TrainOptions(choice=kind, folds=3)
        ).head
        metric = evaluate_head(head, test, space_digest=_SPACE)["accuracy"]
        best = max(best, metric.value) if kind is HeadChoice.AUTO else best
        rows.append((f"ours, {kind}", what, f"{metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f})"))
    for name, make in _PEERS.items():
        score = float(make().fit(train.vectors, train.classes).score(test.vectors, test.classes))
        rows.append((name, what, f"{score:.4f}"))
    return rows, {"fashion_accuracy": best}


def _texts(encoder: Encoder, texts: Sequence[Any], console: Console) -> Floats:
    batches = range(0, len(texts), _BATCH)
    tokens = encoder.prepare_texts(list(texts))
    # Texts of a length together: padding costs little then.
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    parts = [
        encoder.encode_texts([tokens[row] for row in order[start : start + _BATCH]])
        for start in track(batches, "understand", console=console)
    ]
    vectors = np.empty((len(texts), parts[0].shape[1]), np.float32)
    vectors[order] = np.concatenate(parts)
    for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():  # the service's own second try
        vectors[row] = encoder.encode_texts_exact([tokens[row]])[0]
    return vectors


def _images(encoder: Encoder, files: Sequence[Any], console: Console) -> Floats:
    parts = [
        encoder.encode_images([encoder.prepare_image(file) for file in files[start : start + _BATCH]])
        for start in track(range(0, len(files), _BATCH), "understand", console=console)
    ]
    return np.concatenate(parts).astype(np.float32)


if __name__ == "__main__":
    main("head_quality", __doc__ or "", measure)
