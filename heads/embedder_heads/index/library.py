"""The indexes on disk and the ones being served: publishing, aliases, opening by reference, refresh."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from embedder_heads.errors import HeadError, IndexInvalid, IndexNotFound
from embedder_heads.index.building import build_index
from embedder_heads.index.manifest import IndexManifest
from embedder_heads.index.metadata import Metadata
from embedder_heads.index.vector_index import VectorIndex
from embedder_heads.kinds import Floats
from embedder_heads.names import Ref, check_name, parse_ref
from embedder_heads.recommendation.recommender import (
    Recommender,
    TrainedRecommender,
    open_recommender,
    save_recommender,
)
from embedder_heads.runtime import RefreshReport
from embedder_heads.store import VersionedStore


class IndexLibrary:
    """Versions and aliases of indexes under one folder.

    An index is opened at the first call that names it and stays open until a refresh finds it gone; files are mapped, so an
    open index costs address space and page cache that all processes share.
    """

    def __init__(self, root: Path) -> None:
        self._store = VersionedStore(root, not_found=IndexNotFound)
        self._open: dict[tuple[str, int], VectorIndex] = {}
        self._recommenders: dict[tuple[str, int], Recommender] = {}
        self._targets: Mapping[tuple[str, str], int] = MappingProxyType({})
        self._signature: object = None
        self._lock = threading.Lock()
        self.refresh()

    @property
    def root(self) -> Path:
        """The folder that holds every index."""
        return self._store.root

    def publish(
        self,
        name: str,
        vectors: Floats,
        ids: Sequence[str],
        metadata: Sequence[Metadata],
        *,
        space_digest: bytes,
        recommender: TrainedRecommender | None = None,
        texts: Sequence[str] | None = None,
    ) -> IndexManifest:
        """Build an index and add it as the next version of its name.

        Arguments are as of `build_index`; with `recommender`, Recommend goes by it.
        """
        built: list[IndexManifest] = []

        def fill(folder: Path, version: int) -> None:
            manifest = build_index(
                folder, vectors, ids, metadata, space_digest=space_digest, name=name, version=version, texts=texts
            )
            if recommender is not None:
                save_recommender(recommender, folder, VectorIndex(folder))
            built.append(manifest)

        self._store.publish(name, fill)
        return built[0]

    def add(
        self,
        ref: str,
        vectors: Floats,
        ids: Sequence[str],
        metadata: Sequence[Metadata],
        *,
        space_digest: bytes,
        texts: Sequence[str] | None = None,
    ) -> IndexManifest:
        """Publish a version with more items, without embedding the others again; a known id is replaced.

        A trained recommender goes along, and knows the new items by their content at once. Other arguments are as of
        `build_index`.

        Raises:
            HeadSpaceMismatch: the vectors are of another space than the index.
        """
        index = self.open(ref, space_digest)
        kept = _without(index, ids)
        return self._publish_like(
            index,
            _Items(
                np.concatenate([kept.vectors, vectors]),
                [*kept.ids, *ids],
                [*kept.metadata, *metadata],
                None if kept.texts is None else [*kept.texts, *(texts or [""] * len(ids))],
            ),
        )

    def remove_items(self, ref: str, ids: Sequence[str]) -> IndexManifest:
        """Publish a version without some items.

        Raises:
            QueryInvalid: an id is not in the index, or none would be left.
        """
        index = self.open(ref)
        index.vectors_of(ids)
        return self._publish_like(index, _without(index, ids))

    def open(self, ref: str, space_digest: bytes | None = None) -> VectorIndex:
        """Return the index of a reference, from what the last refresh saw.

        Args:
            ref: `name`, `name@version` or `name@alias`.
            space_digest: the space that it must be of, 32 bytes; None takes any.
        Raises:
            HeadNameInvalid, IndexNotFound, IndexInvalid: there is no such index, or its files are not right.
            HeadSpaceMismatch: it is of another space.
        """
        parsed = parse_ref(ref)
        with self._lock:
            version = parsed.version or self._targets.get((parsed.name, parsed.alias), 0)
            index = self._open.get((parsed.name, version))
            if index is None:
                version = version or self._store.version_of(parsed)
                index = self._open[parsed.name, version] = self._load(parsed, version)
        if space_digest is not None:
            index.check_space(space_digest)
        return index

    def recommender_of(self, index: VectorIndex) -> Recommender | None:
        """Return the trained recommender that was published with an open index; None when there is none."""
        return self._recommenders.get((index.manifest.name, index.manifest.version))

    def refresh(self) -> RefreshReport:
        """Pick up what was published, promoted, rolled back or removed since the last refresh.

        An index whose files are not right is refused with its reason, and its aliases keep meaning the newest good version.
        """
        with self._lock:
            signature = self._store.signature()
            if signature == self._signature:
                return RefreshReport(False, MappingProxyType({}))
            targets: dict[tuple[str, str], int] = {}
            refused: dict[str, str] = {}
            opened: dict[tuple[str, int], VectorIndex] = {}
            for name in self._store.names():
                versions = self._store.versions(name)
                opened.update({(name, v): self._open[name, v] for v in versions if (name, v) in self._open})
                for alias, history in self._store.aliases(name).history.items():
                    target = self._first_good(name, [v for v in reversed(history) if v in versions], opened, refused)
                    if target:
                        targets[name, alias] = target
            self._targets, self._open, self._signature = MappingProxyType(targets), opened, signature
            self._recommenders = {key: value for key, value in self._recommenders.items() if key in opened}
            return RefreshReport(True, MappingProxyType(refused))

    def listing(self) -> list[tuple[IndexManifest, tuple[str, ...]]]:
        """List the indexes that aliases point to, each with its aliases."""
        pointing: dict[tuple[str, int], list[str]] = {}
        for (name, alias), version in sorted(self._targets.items()):
            pointing.setdefault((name, version), []).append(alias)
        return [(self._open[key].manifest, tuple(aliases)) for key, aliases in sorted(pointing.items())]

    def promote(self, ref: str, alias: str) -> int:
        """Point an alias at the version of a reference; returns the version."""
        parsed = parse_ref(ref)
        version = self._store.version_of(parsed)
        self._load(parsed, version)
        self._store.promote(parsed.name, version, alias)
        return version

    def rollback(self, ref: str) -> int:
        """Point `name` (its `current`) or `name@alias` back at the version before; returns that version."""
        parsed = parse_ref(ref)
        return self._store.rollback(parsed.name, parsed.alias)

    def remove(self, ref: str) -> None:
        """Remove one version (`name@3`) that no alias points to, or every version of `name`."""
        parsed = parse_ref(ref)
        self._store.remove(parsed.name, parsed.version)

    def compact(self, name: str) -> list[int]:
        """Remove every version that no alias points to, so that only what is served takes disk; returns these versions."""
        return self._store.compact(check_name(name))

    def _publish_like(self, index: VectorIndex, items: _Items) -> IndexManifest:
        recommender = self.recommender_of(index)
        return self.publish(
            index.manifest.name,
            items.vectors,
            items.ids,
            items.metadata,
            texts=items.texts,
            space_digest=bytes.fromhex(index.manifest.space_digest),
            recommender=None if recommender is None else recommender.trained(),
        )

    def _first_good(
        self,
        name: str,
        versions: Sequence[int],
        opened: dict[tuple[str, int], VectorIndex],
        refused: dict[str, str],
    ) -> int:
        for version in versions:
            try:
                if (name, version) not in opened:
                    opened[name, version] = self._load(Ref(name, version, ""), version)
                return version
            except HeadError as error:
                refused[f"{name}@{version}"] = str(error)
        return 0

    def _load(self, ref: Ref, version: int) -> VectorIndex:
        self._store.version_of(Ref(ref.name, version, ""))
        index = VectorIndex(self._store.folder(ref.name, version))
        if (index.manifest.name, index.manifest.version) != (ref.name, version):
            given = f"{index.manifest.name}@{index.manifest.version}"
            raise IndexInvalid(f"{ref.name}@{version} holds an index that calls itself {given}")
        recommender = open_recommender(self._store.folder(ref.name, version), index)
        if recommender is not None:
            self._recommenders[ref.name, version] = recommender
        return index


@dataclass(frozen=True, slots=True, eq=False)
class _Items:
    vectors: Floats
    ids: list[str]
    metadata: list[Metadata]
    texts: list[str] | None


def _without(index: VectorIndex, ids: Sequence[str]) -> _Items:
    vectors, known, metadata = index.items()
    texts = index.texts()
    gone = set(ids)
    rows = [row for row, item_id in enumerate(known) if item_id not in gone]
    return _Items(
        vectors[rows],
        [known[row] for row in rows],
        [metadata[row] for row in rows],
        None if texts is None else [texts[row] for row in rows],
    )
