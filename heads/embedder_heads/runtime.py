"""The heads that are being served: an immutable snapshot that one call is answered from, and its refresh."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from embedder_heads.bridge.bridge_file import Bridge
from embedder_heads.bridge.bridged_plan import BridgedPlan
from embedder_heads.errors import HeadError, HeadNotFound, HeadSpaceMismatch, QueryInvalid
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
        aliases: aliases that mean this version to vectors of its space.
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

    def __init__(
        self,
        heads: Mapping[tuple[str, int], Head],
        histories: Mapping[tuple[str, str], tuple[int, ...]],
        bridges: Sequence[Bridge] = (),
    ) -> None:
        """Hold checked heads.

        Args:
            heads: (name, version) to head.
            histories: (name, alias) to the versions that it pointed to, oldest first, all in `heads`.
            bridges: what heads of another space may be served over.
        """
        self.bridges = tuple(bridges)
        self.heads = MappingProxyType(dict(heads))
        self.histories = MappingProxyType(dict(histories))
        self.aliases = MappingProxyType({key: history[-1] for key, history in histories.items() if history})
        self._plans: OrderedDict[tuple[bytes, tuple[str, ...]], HeadPlan] = OrderedDict()
        self._lock = threading.Lock()

    def resolve(self, ref: str, space_digest: bytes) -> Head:
        """Return the head of a reference.

        An alias means, in each space, the last version of that space that it pointed to: so the heads of two spaces are
        served under the same names while one gives way to the other.

        Raises:
            HeadNameInvalid, HeadNotFound: there is no such head.
            HeadSpaceMismatch: it is of another space than `space_digest` (32 bytes).
        """
        heads = self._meant(ref)
        wanted = space_digest.hex()
        head = next((head for head in reversed(heads) if head.manifest.space_digest == wanted), heads[-1])
        check_space(head.manifest, space_digest)
        return head

    def resolve_bridged(self, ref: str, space_digest: bytes) -> tuple[Head, Bridge | None]:
        """Return the head of a reference, and the bridge that vectors of `space_digest` go over to it; see `resolve`.

        A head of the vectors' own space comes before any that a bridge leads to.
        """
        try:
            return self.resolve(ref, space_digest), None
        except HeadSpaceMismatch:
            source = space_digest.hex()
            for head in reversed(self._meant(ref)):
                for bridge in self.bridges:
                    ends = (bridge.manifest.source_digest, bridge.manifest.target_digest)
                    if ends == (source, head.manifest.space_digest):
                        return head, bridge
            raise

    def _meant(self, ref: str) -> list[Head]:
        """Return the heads that a reference means, in one space or another: never none, the last one counts most."""
        parsed = parse_ref(ref)
        versions = (parsed.version,) if parsed.version else self.histories.get((parsed.name, parsed.alias), ())
        heads = [head for version in versions if (head := self.heads.get((parsed.name, version))) is not None]
        if not heads:
            names = sorted({name for name, _ in self.heads})
            raise HeadNotFound(f"no head {ref!r} is served; there are {', '.join(names[:20]) or 'none'}")
        return heads

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
        if plan.bridges:
            first = plan.bridges[0]
            dim = first.manifest.source_dim if first else dim
        if vectors.shape[1] != dim:
            raise QueryInvalid(f"vectors have dim {vectors.shape[1]}; the heads of this space take {dim}")

    def served(self) -> list[ServedHead]:
        """List what is served, by name and version."""
        pointing: dict[tuple[str, int], list[str]] = {}
        for (name, alias), history in self.histories.items():
            last_of = {self.heads[name, version].manifest.space_digest: version for version in history}
            for version in last_of.values():
                pointing.setdefault((name, version), []).append(alias)
        return [
            ServedHead(head.manifest, tuple(sorted(pointing.get(key, ())))) for key, head in sorted(self.heads.items())
        ]

    def plan(self, refs: Sequence[str], space_digest: bytes) -> HeadPlan:
        """Return the heads of references made ready to run, the same object for the same references.

        Raises:
            HeadNameInvalid, HeadNotFound, HeadSpaceMismatch: a reference has no head of this space, nor one that a bridge leads to.
        """
        refs = tuple(refs)
        key = (space_digest, refs)
        with self._lock:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
        if plan is None:
            heads, bridges = self._found(refs, space_digest)
            plan = BridgedPlan(heads, bridges) if any(bridges) else HeadPlan(heads)
            with self._lock:
                self._plans[key] = plan
                while len(self._plans) > _KEPT_PLANS:
                    self._plans.popitem(last=False)
        return plan

    def _found(self, refs: Sequence[str], space_digest: bytes) -> tuple[list[Head], list[Bridge | None]]:
        pairs = [self.resolve_bridged(ref, space_digest) for ref in refs]
        return [head for head, _ in pairs], [bridge for _, bridge in pairs]


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

    def serve_bridges(self, bridges: Sequence[Bridge]) -> None:
        """Serve heads of other spaces over these bridges from now on, and over no other."""
        with self._refreshing:
            self._snapshot = HeadSnapshot(self._snapshot.heads, self._snapshot.histories, bridges)

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
            histories: dict[tuple[str, str], tuple[int, ...]] = {}
            refused: dict[str, str] = {}
            for name in self._registry.names():
                self._load_name(name, heads, histories, refused)
            self._snapshot = HeadSnapshot(heads, histories, self._snapshot.bridges)
            self._refused = MappingProxyType(refused)
            self._signature = signature
            return RefreshReport(True, self._refused)

    def _load_name(
        self,
        name: str,
        heads: dict[tuple[str, int], Head],
        histories: dict[tuple[str, str], tuple[int, ...]],
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
            before = {key: history for key, history in self._snapshot.histories.items() if key[0] == name}
            histories.update({key: good for key, history in before.items() if (good := _among(history, loaded))})
            return
        for alias, history in pointing.items():
            if good := _among(history, loaded):
                histories[name, alias] = good


def _among(history: Iterable[int], loaded: Sequence[int]) -> tuple[int, ...]:
    return tuple(version for version in history if version in loaded)
