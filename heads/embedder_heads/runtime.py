"""The heads that are being served: an immutable snapshot that one call is answered from, and its refresh."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from embedder_heads.errors import HeadError, HeadNotFound, QueryInvalid
from embedder_heads.head_file import Head, HeadManifest
from embedder_heads.kinds import Floats
from embedder_heads.names import CURRENT, parse_ref
from embedder_heads.plan import HeadOutput, HeadPlan, PackedOutput
from embedder_heads.registry import HeadRegistry, check_space

_KEPT_PLANS = 64


@dataclass(frozen=True, slots=True)
class ServedHead:
    """One head that answers now.

    Attributes:
        manifest: what it is.
        aliases: aliases that mean this version.
    """

    manifest: HeadManifest
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What a refresh found.

    Attributes:
        changed: whether another snapshot serves now.
        refused: reference to reason, for every head on disk that is not served.
    """

    changed: bool
    refused: Mapping[str, str]


class HeadSnapshot:
    """Every head that is served at one moment; immutable, so a call is answered from exactly one version of each."""

    def __init__(self, heads: Mapping[tuple[str, int], Head], aliases: Mapping[tuple[str, str], int]) -> None:
        """Hold checked heads.

        Args:
            heads: (name, version) to head.
            aliases: (name, alias) to a version that is in `heads`.
        """
        self.heads = MappingProxyType(dict(heads))
        self.aliases = MappingProxyType(dict(aliases))
        self._plans: OrderedDict[tuple[bytes, tuple[str, ...]], HeadPlan] = OrderedDict()
        self._lock = threading.Lock()

    def resolve(self, ref: str, space_digest: bytes) -> Head:
        """Return the head of a reference.

        Raises:
            HeadNameInvalid, HeadNotFound: there is no such head.
            HeadSpaceMismatch: it is of another space than `space_digest` (32 bytes).
        """
        parsed = parse_ref(ref)
        version = parsed.version or self.aliases.get((parsed.name, parsed.alias), 0)
        head = self.heads.get((parsed.name, version))
        if head is None:
            names = sorted({name for name, _ in self.heads})
            raise HeadNotFound(f"no head {ref!r} is served; there are {', '.join(names[:20]) or 'none'}")
        check_space(head.manifest, space_digest)
        return head

    def predict(self, vectors: Floats, refs: Sequence[str], space_digest: bytes) -> list[HeadOutput]:
        """Score vectors by several heads; see `HeadRuntime.predict`."""
        plan = self.plan(refs, space_digest)
        self._check_vectors(plan, vectors)
        return plan.run(vectors)

    def predict_packed(self, vectors: Floats, refs: Sequence[str], space_digest: bytes) -> PackedOutput:
        """Score vectors by very many heads into one block; arguments and errors as of `HeadRuntime.predict`."""
        plan = self.plan(refs, space_digest)
        self._check_vectors(plan, vectors)
        return plan.run_packed(vectors)

    @staticmethod
    def _check_vectors(plan: HeadPlan, vectors: Floats) -> None:
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise QueryInvalid(f"vectors are {vectors.dtype} of shape {vectors.shape}; heads take (n, dim) float32")
        dim = plan.layout[0].dim if plan.layout else vectors.shape[1]
        if vectors.shape[1] != dim:
            raise QueryInvalid(f"vectors have dim {vectors.shape[1]}; the heads of this space take {dim}")

    def served(self) -> list[ServedHead]:
        """List what is served, by name and version."""
        pointing: dict[tuple[str, int], list[str]] = {}
        for (name, alias), version in self.aliases.items():
            pointing.setdefault((name, version), []).append(alias)
        return [
            ServedHead(head.manifest, tuple(sorted(pointing.get(key, ())))) for key, head in sorted(self.heads.items())
        ]

    def plan(self, refs: Sequence[str], space_digest: bytes) -> HeadPlan:
        """Return the heads of references made ready to run, the same object for the same references.

        Raises:
            HeadNameInvalid, HeadNotFound, HeadSpaceMismatch: a reference has no head of this space.
        """
        refs = tuple(refs)
        key = (space_digest, refs)
        with self._lock:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
        if plan is None:
            plan = HeadPlan([self.resolve(ref, space_digest) for ref in refs])
            with self._lock:
                self._plans[key] = plan
                while len(self._plans) > _KEPT_PLANS:
                    self._plans.popitem(last=False)
        return plan


class HeadRuntime:
    """Serves the newest good heads of a registry; any thread may predict while another refreshes."""

    def __init__(self, registry: HeadRegistry) -> None:
        """Serve a registry's heads; the first refresh happens here."""
        self._registry = registry
        self._signature: object = None
        self._refused: Mapping[str, str] = MappingProxyType({})
        self._snapshot = HeadSnapshot({}, {})
        self._refreshing = threading.Lock()
        self.refresh()

    @property
    def snapshot(self) -> HeadSnapshot:
        """What is served now; a caller that keeps it keeps getting the same answers."""
        return self._snapshot

    def predict(self, vectors: Floats, refs: Sequence[str], space_digest: bytes) -> list[HeadOutput]:
        """Score vectors by several heads, all from one snapshot.

        Args:
            vectors: (n, dim) float32, unit vectors of the space; they are only read.
            refs: `name`, `name@version` or `name@alias`, in any number and kind.
            space_digest: digest of the vectors' space, 32 bytes.
        Returns:
            One output per reference, in order.
        Raises:
            HeadNameInvalid, HeadNotFound: a reference is not of the allowed form, or nothing is served under it.
            HeadSpaceMismatch: a head is of another space.
            QueryInvalid: the vectors have another dim, shape or dtype.
        """
        return self._snapshot.predict(vectors, refs, space_digest)

    def refresh(self) -> RefreshReport:
        """Pick up what was published, promoted, rolled back or removed since the last refresh.

        Costs one small read and a stat a name when nothing changed. A version that can't be loaded is refused with its
        reason; an alias that points to it keeps meaning the newest version, of those it pointed to, that can.
        """
        with self._refreshing:
            signature = self._registry.signature()
            if signature == self._signature:
                return RefreshReport(False, self._refused)
            heads: dict[tuple[str, int], Head] = {}
            aliases: dict[tuple[str, str], int] = {}
            refused: dict[str, str] = {}
            for name in self._registry.names():
                self._load_name(name, heads, aliases, refused)
            self._snapshot = HeadSnapshot(heads, aliases)
            self._refused = MappingProxyType(refused)
            self._signature = signature
            return RefreshReport(True, self._refused)

    def _load_name(
        self,
        name: str,
        heads: dict[tuple[str, int], Head],
        aliases: dict[tuple[str, str], int],
        refused: dict[str, str],
    ) -> None:
        loaded = []
        for version in self._registry.versions(name):
            known = self._snapshot.heads.get(
                (name, version)
            )  # versions never change, so one that loaded once stays good
            try:
                heads[name, version] = known or self._registry.load(name, version)
                loaded.append(version)
            except HeadError as error:
                refused[f"{name}@{version}"] = str(error)
        try:
            pointing = self._registry.pointing(name)
        except HeadError as error:
            refused[f"{name}@{CURRENT}"] = str(error)
            kept = {
                key: version for key, version in self._snapshot.aliases.items() if key[0] == name and version in loaded
            }
            aliases.update(kept)
            return
        for alias, history in pointing.items():
            good = [version for version in history if version in loaded]
            if good:
                aliases[name, alias] = good[-1]
