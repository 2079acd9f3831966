"""The ranker behind the two towers at serving time: it looks at a user and a candidate together, which one product can't.

Dense features, bags of embedded ids and tags, and contents become vectors of one width; their products, pair by pair, and the dense
vector go through two layers to a logit that is added to the towers' own. An item that nobody had seen in training gets one learned
number instead, the same for all of them: among themselves they stay in the towers' order.

Source: Naumov et al. 2019, "Deep Learning Recommendation Model for Personalization and Recommendation Systems", section 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

from embedder_heads.errors import IndexInvalid
from embedder_heads.kinds import Floats
from embedder_heads.manifest import read_manifest, write_manifest

MANIFEST = "ranker.json"
TENSORS = "ranker.safetensors"
SCHEMA = 1
RECENT = 5
"""Items of a history that count as its recent ones."""
DENSE_FEATURES = (
    "the towers' logit",
    "log of how often the item was seen in training",
    "cosine of its content to the history's mean",
    "its highest cosine to a recent item",
    "how common its tags are in the history",
    "log of the history's length",
)
ITEM_VECTORS, USER_VECTORS = 3, 6

# Shapes in names of sizes: `dim` content, `axes` projected content, `width` of every vector, `known` items with history, `tags`,
# `traits` of users, `inner` and `inner2` hidden units.
_SHAPES: Mapping[str, tuple[str, ...]] = {
    "mean": ("dim",),
    "axes": ("axes", "dim"),
    "seen_counts": ("known",),
    "item_own": ("known", "width"),
    "item_tags": ("tags", "width"),
    "item_content": ("axes", "width"),
    "recent_own": ("known", "width"),
    "past_own": ("known", "width"),
    "past_tags": ("tags", "width"),
    "past_content": ("axes", "width"),
    "recent_content": ("axes", "width"),
    "traits": ("traits", "width"),
    "dense_mean": ("dense",),
    "dense_scale": ("dense",),
    "dense_in": ("inner", "dense"),
    "dense_in_bias": ("inner",),
    "dense_out": ("width", "inner"),
    "dense_out_bias": ("width",),
    "top_in": ("inner2", "top"),
    "top_in_bias": ("inner2",),
    "top_out": ("one", "inner2"),
    "logit_scale": ("one",),
    "new_logit": ("one",),
}


@dataclass(frozen=True, slots=True, eq=False)
class RankedItems:
    """What the ranker needs of n items, computed once.

    Attributes:
        vectors: (n, 3, width) float32: own, tags, content.
        seen: (n, 3, width) float32, what an item adds to a history: own among the recent, own among all, tags.
        content: (n, axes) float32 centred and projected content, of L2 norm 1 before it was projected.
        marks: (n, tags) float32, each row's tags with a sum of 1.
        popularity: (n,) float32, log of how often it was seen in training.
        is_new: (n,) bool, whether that was never.
    """

    vectors: Floats
    seen: Floats
    content: Floats
    marks: Floats
    popularity: Floats
    is_new: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.integer] | slice) -> RankedItems:
        """Return some rows."""
        return RankedItems(*(getattr(self, field.name)[rows] for field in fields(RankedItems)))

    @staticmethod
    def join(parts: Sequence[RankedItems]) -> RankedItems:
        """Put items one behind the other."""
        return RankedItems(
            *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(RankedItems))
        )


class Ranker:
    """A trained ranker of one space."""

    def __init__(
        self, tensors: Mapping[str, Floats], *, ids: Sequence[str], tags: Sequence[str], traits: Sequence[str]
    ) -> None:
        """Hold checked tensors.

        Args:
            tensors: by the names of this file's table of shapes, float32.
            ids: the items that have vectors of their own.
            tags: the items' tags that are known.
            traits: the users' tags that are known.
        Raises:
            IndexInvalid: a tensor is missing, of another shape or dtype, or not finite.
        """
        pairs = (1 + ITEM_VECTORS + USER_VECTORS) * (ITEM_VECTORS + USER_VECTORS) // 2
        sizes = {"known": len(ids), "tags": len(tags), "traits": len(traits), "one": 1, "dense": len(DENSE_FEATURES)}
        if set(tensors) != set(_SHAPES):
            raise IndexInvalid(f"a ranker has the tensors {sorted(_SHAPES)}, and this one has {sorted(tensors)}")
        for name, symbols in _SHAPES.items():
            tensor = tensors[name]
            shape = tuple(sizes.setdefault(symbol, size) for symbol, size in zip(symbols, tensor.shape, strict=False))
            if tensor.dtype != np.float32 or tensor.shape != shape or len(symbols) != tensor.ndim:
                raise IndexInvalid(f"ranker tensor {name!r} is {tensor.dtype} {tensor.shape}; it should be {shape}")
            if not np.isfinite(tensor).all():
                raise IndexInvalid(f"ranker tensor {name!r} holds NaN or infinity")
        if sizes["top"] != sizes["width"] + pairs:
            raise IndexInvalid("the ranker's layers do not fit each other")
        self.tensors = MappingProxyType(dict(tensors))
        self.ids, self.tags, self.traits = tuple(ids), tuple(tags), tuple(traits)
        self._row_of = {item_id: row for row, item_id in enumerate(ids)}
        self._tag_column = {tag: column for column, tag in enumerate(tags)}
        self._trait_column = {trait: column for column, trait in enumerate(traits)}
        self._pairs = np.tril_indices(1 + ITEM_VECTORS + USER_VECTORS, -1)

    def items(self, vectors: Floats, ids: Sequence[str], tags: Sequence[Sequence[str]]) -> RankedItems:
        """Compute what is needed of items.

        Args:
            vectors: (n, dim) float32 unit vectors of the items' contents.
            ids: n ids.
            tags: n lists of tags; unknown ones are skipped.
        """
        t = self.tensors
        rows = np.array([self._row_of.get(item_id, -1) for item_id in ids], np.intp)
        known = rows >= 0
        content = project(vectors, t["mean"], t["axes"])
        marks = tag_shares(tags, self._tag_column)
        own = [np.where(known[:, None], t[name][rows], 0.0) for name in ("item_own", "recent_own", "past_own")]
        popularity = np.where(known, t["seen_counts"][rows], 0.0)
        return RankedItems(
            vectors=np.stack([own[0], marks @ t["item_tags"], content @ t["item_content"]], axis=1).astype(np.float32),
            seen=np.stack([own[1], own[2], marks @ t["past_tags"]], axis=1).astype(np.float32),
            content=content,
            marks=marks,
            popularity=popularity.astype(np.float32),
            is_new=~known,
        )

    def logits(
        self, items: RankedItems, tower_logits: Floats, history: RankedItems, traits: Sequence[str] = ()
    ) -> Floats:
        """Score candidates for one user.

        Args:
            items: the candidates, n of them.
            tower_logits: (n,) float32, what the towers say of them.
            history: what the user has seen, oldest first, at least one item.
            traits: what is known of the user; unknown ones are skipped.
        Returns:
            (n,) float32 logits; they differ from the towers' by what the ranker adds.
        """
        t = self.tensors
        dense = dense_features(items, tower_logits, history)  # (n, dense)
        dense = np.clip((dense - t["dense_mean"]) / t["dense_scale"], -5.0, 5.0)
        hidden = np.maximum(dense @ t["dense_in"].T + t["dense_in_bias"], 0.0)
        dense_vector = hidden @ t["dense_out"].T + t["dense_out_bias"]  # (n, width)
        user = np.broadcast_to(self._user(history, traits), (len(tower_logits), USER_VECTORS, dense_vector.shape[1]))
        vectors = np.concatenate([dense_vector[:, None], items.vectors, user], axis=1)  # (n, 10, width)
        products = (vectors @ vectors.transpose(0, 2, 1))[:, self._pairs[0], self._pairs[1]]  # (n, 45)
        top = np.concatenate([dense_vector, products], axis=1)
        top = np.maximum(top @ t["top_in"].T + t["top_in_bias"], 0.0)
        added = np.where(items.is_new, t["new_logit"], (top @ t["top_out"].T)[:, 0])
        logits: Floats = t["logit_scale"] * tower_logits + added
        return logits.astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write `ranker.json` and `ranker.safetensors` into an existing folder."""
        payload = dump_tensors({name: np.ascontiguousarray(tensor) for name, tensor in sorted(self.tensors.items())})
        (folder / TENSORS).write_bytes(payload)
        document = {
            "schema": SCHEMA,
            "ids": list(self.ids),
            "tags": list(self.tags),
            "traits": list(self.traits),
            "tensors_digest": hashlib.sha256(payload).hexdigest(),
        }
        write_manifest(folder / MANIFEST, document)

    @classmethod
    def load(cls, folder: Path) -> Ranker:
        """Read what `save` wrote; raises IndexInvalid when anything is not right."""
        fields = read_manifest(folder / MANIFEST, schema=SCHEMA, error=IndexInvalid)
        ids, tags, traits = fields.texts("ids"), fields.texts("tags"), fields.texts("traits")
        digest = fields.text("tensors_digest")
        fields.done()
        try:
            payload = (folder / TENSORS).read_bytes()
            if hashlib.sha256(payload).hexdigest() != digest:
                raise IndexInvalid(f"{TENSORS} does not have the digest that {MANIFEST} gives")
            return cls(load_tensors(payload), ids=ids, tags=tags, traits=traits)
        except (OSError, SafetensorError, ValueError) as error:
            raise IndexInvalid(f"{TENSORS} can't be read: {error}") from error

    def _user(self, history: RankedItems, traits: Sequence[str]) -> Floats:
        t = self.tensors
        columns = [self._trait_column[trait] for trait in traits if trait in self._trait_column]
        parts = [
            history.seen[-RECENT:, 0].mean(axis=0),
            history.seen[:, 1].mean(axis=0),
            history.seen[:, 2].mean(axis=0),
            history.content.mean(axis=0) @ t["past_content"],
            history.content[-RECENT:].mean(axis=0) @ t["recent_content"],
            t["traits"][columns].sum(axis=0),
        ]
        return np.stack(parts)  # (6, width)


def dense_features(items: RankedItems, tower_logits: Floats, history: RankedItems) -> Floats:
    """Return (n, dense) float32 features of candidates for one history, in the order of `DENSE_FEATURES`."""
    profile = history.content.mean(axis=0)
    profile = profile / max(float(np.linalg.norm(profile)), 1e-6)
    recent = items.content @ history.content[-RECENT:].T  # (n, recent)
    common = items.marks @ history.marks.mean(axis=0)
    length = np.full(len(tower_logits), np.log1p(len(history.content)))
    columns = [tower_logits, items.popularity, items.content @ profile, recent.max(axis=1), common, length]
    return np.stack(columns, axis=1).astype(np.float32)


def project(vectors: Floats, mean: Floats, axes: Floats) -> Floats:
    """Centre, normalize and project contents: (n, dim) to (n, axes) float32."""
    centred = vectors - mean
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    projected: Floats = (centred @ axes.T).astype(np.float32)
    return projected


def tag_shares(tags: Sequence[Sequence[str]], column_of: Mapping[str, int]) -> Floats:
    """Return (n, tags) float32: an item's tags, each with the same share of 1; unknown ones are skipped."""
    shares = np.zeros((len(tags), len(column_of)), np.float32)
    for row, names in enumerate(tags):
        columns = [column_of[name] for name in names if name in column_of]
        shares[row, columns] = 1.0 / max(len(columns), 1)
    return shares
