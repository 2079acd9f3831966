"""The two-tower recommender at serving time: items and histories become vectors whose product says what comes next.

An item vector has two blocks and a bias. The first block is for items with history: a learned vector of their own beside what their
content and tags say. The second is for new items, from content and tags alone. A history's vector has a part for each block, so that one
nearest-neighbour search ranks known and new items together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

from embedder_heads.errors import IndexInvalid
from embedder_heads.kinds import Floats
from embedder_heads.manifest import read_manifest, write_manifest

MANIFEST = "recommender.json"
TENSORS = "recommender.safetensors"
SCHEMA = 1

# Shapes in names of sizes: `dim` content, `axes` projected content, `width` known block, `side` new block, `reads` attention
# queries, `recent` history positions, `known` items with history, `tags` tags, `inner` and `inner2` hidden units.
_SHAPES: Mapping[str, tuple[str, ...]] = {
    "mean": ("dim",),
    "axes": ("axes", "dim"),
    "item_own": ("known", "width"),
    "item_bias": ("known",),
    "item_content": ("axes", "width"),
    "item_tags": ("tags", "width"),
    "new_content": ("axes", "side"),
    "new_tags": ("tags", "side"),
    "new_bias_content": ("axes",),
    "new_bias_tags": ("tags",),
    "new_bias": ("one",),
    "seen_own": ("known", "width"),
    "seen_content": ("axes", "width"),
    "seen_tags": ("tags", "width"),
    "key": ("width", "width"),
    "key_bias": ("width",),
    "queries": ("reads", "width"),
    "positions": ("reads", "recent"),
    "mix": ("reads",),
    "recent_match": ("axes", "axes"),
    "profile_match": ("axes", "axes"),
    "user_in": ("inner", "user_in"),
    "user_in_bias": ("inner",),
    "user_out": ("width", "inner"),
    "user_out_bias": ("width",),
    "side_in": ("inner2", "side_in"),
    "side_in_bias": ("inner2",),
    "side_out": ("side", "inner2"),
    "side_out_bias": ("side",),
}


@dataclass(frozen=True, slots=True, eq=False)
class ItemTable:
    """What the towers need of n items, computed once.

    Attributes:
        vectors: (n, known + new blocks + 1) float32; their product with a history's vector ranks.
        content: (n, axes) float32 centred and projected content.
        seen: (n, width) float32, what an item adds to a history.
        attention: (n, reads) float32, how much each query reads of it, before position.
    """

    vectors: Floats
    content: Floats
    seen: Floats
    attention: Floats


class TwoTower:
    """A trained two-tower recommender of one space.

    Source: Covington et al. 2016, section 3 (two towers, sampled softmax); Volkovs et al. 2017 (item vectors dropped in training
    so that content alone must serve).
    """

    def __init__(self, tensors: Mapping[str, Floats], *, ids: Sequence[str], tags: Sequence[str]) -> None:
        """Hold checked tensors.

        Args:
            tensors: by the names of this file's table of shapes, float32.
            ids: the items that have vectors of their own, in the order of `item_own`.
            tags: the tags that are known, in the order of `item_tags`.
        Raises:
            IndexInvalid: a tensor is missing, of another shape or dtype, or not finite.
        """
        sizes = {"known": len(ids), "tags": len(tags), "one": 1}
        if set(tensors) != set(_SHAPES):
            raise IndexInvalid(f"a recommender has the tensors {sorted(_SHAPES)}, and this one has {sorted(tensors)}")
        for name, symbols in _SHAPES.items():
            tensor = tensors[name]
            shape = tuple(sizes.setdefault(symbol, size) for symbol, size in zip(symbols, tensor.shape, strict=False))
            if tensor.dtype != np.float32 or tensor.shape != shape or len(symbols) != tensor.ndim:
                raise IndexInvalid(
                    f"recommender tensor {name!r} is {tensor.dtype} {tensor.shape}; it should be {shape}"
                )
            if not np.isfinite(tensor).all():
                raise IndexInvalid(f"recommender tensor {name!r} holds NaN or infinity")
        if sizes["user_in"] != sizes["reads"] * sizes["width"] + sizes["axes"] or sizes["side_in"] != 2 * sizes["axes"]:
            raise IndexInvalid("the recommender's layers do not fit each other")
        self.tensors = MappingProxyType(dict(tensors))
        self.ids = tuple(ids)
        self.tags = tuple(tags)
        self.recent = sizes["recent"]
        self._row_of = {item_id: row for row, item_id in enumerate(ids)}
        self._column_of = {tag: column for column, tag in enumerate(tags)}

    def table(self, vectors: Floats, ids: Sequence[str], tags: Sequence[Sequence[str]]) -> ItemTable:
        """Compute what the towers need of items; those that were not trained on go by content and tags.

        Args:
            vectors: (n, dim) float32 unit vectors of the items' contents.
            ids: n ids.
            tags: n lists of tags; unknown ones are skipped.
        """
        t = self.tensors
        content = self.project(vectors)  # (n, axes)
        marks = self._marks(tags)  # (n, tags)
        rows = np.array([self._row_of.get(item_id, -1) for item_id in ids], np.intp)
        known = rows >= 0
        own = np.where(known[:, None], t["item_own"][rows], 0.0)
        block = own + content @ t["item_content"] + marks @ t["item_tags"]
        side = np.concatenate([content, content @ t["new_content"] + marks @ t["new_tags"]], axis=1)
        new_bias = content @ t["new_bias_content"] + marks @ t["new_bias_tags"] + t["new_bias"]
        bias = np.where(known, t["item_bias"][rows], new_bias)
        parts = [block * known[:, None], side * ~known[:, None], bias[:, None]]
        seen = np.where(known[:, None], t["seen_own"][rows], 0.0) + content @ t["seen_content"] + marks @ t["seen_tags"]
        attention = np.tanh(seen @ t["key"].T + t["key_bias"]) @ t["queries"].T  # (n, reads)
        narrow = [np.ascontiguousarray(part, np.float32) for part in (np.concatenate(parts, axis=1), seen, attention)]
        return ItemTable(vectors=narrow[0], content=content, seen=narrow[1], attention=narrow[2])

    def project(self, vectors: Floats) -> Floats:
        """Centre, normalize and project contents: (n, dim) to (n, axes) float32."""
        centred: Floats = vectors - self.tensors["mean"]
        centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6).astype(np.float32)
        projected: Floats = centred @ self.tensors["axes"].T
        return projected

    def history_vector(self, content: Floats, seen: Floats, attention: Floats) -> Floats:
        """Fold a history into the vector that item vectors are multiplied with.

        Args:
            content: (n, axes) float32 of the seen items, oldest first, n at least 1.
            seen: (n, width) float32.
            attention: (n, reads) float32.
        Returns:
            (known + new blocks + 1,) float32.
        """
        t = self.tensors
        profile = content.mean(axis=0)
        count = min(len(content), self.recent)
        latest = slice(len(content) - 1, len(content) - 1 - count if len(content) > count else None, -1)
        logits = attention[latest].T + t["positions"][:, :count]  # (reads, count), newest first
        weights: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        pooled = weights @ seen[latest]  # (reads, width)
        mix = np.exp(t["mix"] - t["mix"].max())
        recent = (mix / mix.sum()) @ weights @ content[latest]  # (axes,)
        user = _layers(np.concatenate([pooled.ravel(), profile]), t, "user")
        side = _layers(np.concatenate([recent, profile]), t, "side")
        match = recent @ t["recent_match"] + profile @ t["profile_match"]
        return np.concatenate([user, match, side, np.ones(1)]).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write `recommender.json` and `recommender.safetensors` into an existing folder."""
        payload = dump_tensors({name: np.ascontiguousarray(tensor) for name, tensor in sorted(self.tensors.items())})
        (folder / TENSORS).write_bytes(payload)
        digest = hashlib.sha256(payload).hexdigest()
        document = {"schema": SCHEMA, "ids": list(self.ids), "tags": list(self.tags), "tensors_digest": digest}
        write_manifest(folder / MANIFEST, document)

    @classmethod
    def load(cls, folder: Path) -> TwoTower:
        """Read what `save` wrote; raises IndexInvalid when anything is not right."""
        fields = read_manifest(folder / MANIFEST, schema=SCHEMA, error=IndexInvalid)
        ids, tags, digest = fields.texts("ids"), fields.texts("tags"), fields.text("tensors_digest")
        fields.done()
        try:
            payload = (folder / TENSORS).read_bytes()
            if hashlib.sha256(payload).hexdigest() != digest:
                raise IndexInvalid(f"{TENSORS} does not have the digest that {MANIFEST} gives")
            return cls(load_tensors(payload), ids=ids, tags=tags)
        except (OSError, SafetensorError, ValueError) as error:
            raise IndexInvalid(f"{TENSORS} can't be read: {error}") from error

    def _marks(self, tags: Sequence[Sequence[str]]) -> Floats:
        marks = np.zeros((len(tags), len(self.tags)), np.float32)
        for row, names in enumerate(tags):
            columns = [self._column_of[name] for name in names if name in self._column_of]
            marks[row, columns] = 1.0
        return marks


def _layers(inputs: Floats, tensors: Mapping[str, Floats], name: str) -> Floats:
    hidden = np.maximum(tensors[f"{name}_in"] @ inputs + tensors[f"{name}_in_bias"], 0.0)
    outputs: Floats = tensors[f"{name}_out"] @ hidden + tensors[f"{name}_out_bias"]
    return outputs
