"""The fusions on disk, and those that are served: an immutable snapshot, and its refresh."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from embedder_heads.errors import ArtifactNotFound, HeadError, HeadInvalid, HeadNameInvalid, HeadSpaceMismatch
from embedder_heads.fusion.attention import AttentionFusion
from embedder_heads.fusion.fusion_file import load_fusion, save_fusion
from embedder_heads.names import CURRENT, check_alias, check_name, parse_ref
from embedder_heads.runtime import RefreshReport
from embedder_heads.store import VersionedStore

MEAN = "mean"


class FusionLibrary:
    """Versions and aliases of fusions under one folder. Thread-safe; a publish is one rename, safe for many processes."""

    def __init__(self, root: Path) -> None:
        """Serve a folder's fusions; the first refresh happens here."""
        self._store = VersionedStore(root)
        self._signature: object = None
        self._served: Mapping[tuple[str, int], AttentionFusion] = MappingProxyType({})
        self._histories: Mapping[tuple[str, str], tuple[int, ...]] = MappingProxyType({})
        self._refused: Mapping[str, str] = MappingProxyType({})
        self._refreshing = threading.Lock()
        self.refresh()

    @property
    def root(self) -> Path:
        """The folder that holds every fusion."""
        return self._store.root

    def publish(self, fusion: AttentionFusion, *, alias: str = "", make_current: bool = True) -> AttentionFusion:
        """Add a fusion as the next version of its name; returns it as published."""
        published: list[AttentionFusion] = []
        name = check_name(fusion.manifest.name)
        if name == MEAN:
            raise HeadNameInvalid(f"{MEAN!r} is the fusion that needs no training; take another name")
        if alias:
            check_alias(alias)

        def fill(folder: Path, version: int) -> None:
            published.append(save_fusion(fusion, folder, name=name, version=version))

        version = self._store.publish(name, fill, make_current=make_current)
        if alias:
            self._store.promote(name, version, alias)
        return published[0]

    def resolve(self, ref: str, space_digest: bytes) -> AttentionFusion:
        """Return the served fusion of a reference: `name`, `name@version` or `name@alias`.

        An alias means, in each space, the last version of that space that it pointed to, as of heads.

        Raises:
            HeadNameInvalid, ArtifactNotFound: there is no such fusion.
            HeadSpaceMismatch: it is of another space than `space_digest` (32 bytes).
        """
        parsed = parse_ref(ref)
        versions = (parsed.version,) if parsed.version else self._histories.get((parsed.name, parsed.alias), ())
        fusions = [found for version in versions if (found := self._served.get((parsed.name, version))) is not None]
        if not fusions:
            names = sorted({name for name, _ in self._served})
            raise ArtifactNotFound(
                f"no fusion {ref!r} is served; there are mean{''.join(f', {name}' for name in names)}"
            )
        wanted = space_digest.hex()
        fusion = next((one for one in reversed(fusions) if one.manifest.space_digest == wanted), fusions[-1])
        if fusion.manifest.space_digest != wanted:
            reference = f"{fusion.manifest.name}@{fusion.manifest.version}"
            raise HeadSpaceMismatch(reference, wants=fusion.manifest.space_digest, has=wanted)
        return fusion

    def of_space(self, space_digest: bytes) -> Sequence[AttentionFusion]:
        """Return every served fusion of a space, all versions."""
        return [fusion for fusion in self._served.values() if fusion.manifest.space_digest == space_digest.hex()]

    def refresh(self) -> RefreshReport:
        """Pick up what was published, promoted or removed since the last refresh; what can't be loaded is refused."""
        with self._refreshing:
            signature = self._store.signature()
            if signature == self._signature:
                return RefreshReport(False, self._refused)
            served: dict[tuple[str, int], AttentionFusion] = {}
            histories: dict[tuple[str, str], tuple[int, ...]] = {}
            refused: dict[str, str] = {}
            for name in self._store.names():
                for version in self._store.versions(name):
                    try:
                        served[name, version] = self._served.get((name, version)) or self._load(name, version)
                    except HeadError as error:
                        refused[f"{name}@{version}"] = str(error)
                try:
                    pointing = self._store.aliases(name).history
                except HeadError as error:
                    refused[f"{name}@{CURRENT}"] = str(error)
                    continue
                for alias, history in pointing.items():
                    if good := tuple(version for version in history if (name, version) in served):
                        histories[name, alias] = good
            self._served, self._histories = MappingProxyType(served), MappingProxyType(histories)
            self._refused, self._signature = MappingProxyType(refused), signature
            return RefreshReport(True, self._refused)

    def _load(self, name: str, version: int) -> AttentionFusion:
        fusion = load_fusion(self._store.folder(name, version))
        said = (fusion.manifest.name, fusion.manifest.version)
        if said != (name, version):
            raise HeadInvalid(f"{name}@{version} holds a fusion that calls itself {said[0]}@{said[1]}")
        return fusion
