"""Renders a kustomization of resources and JSON 6902 patches, which is all that the project's overlays use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

Manifest = dict[str, Any]


def render(folder: Path) -> list[Manifest]:
    """Return the resources of a folder's kustomization, patched; raises ValueError for what is not understood."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := kustomization.keys() - {"apiVersion", "kind", "resources", "patches"}:
        raise ValueError(f"{folder}: {', '.join(sorted(unknown))} would have to be rendered too")
    manifests = [one for name in kustomization["resources"] for one in _load(folder / name)]
    for patch in kustomization.get("patches", ()):
        manifests = list(_patched(manifests, patch))
    return manifests


def _load(path: Path) -> list[Manifest]:
    return render(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))


def _patched(manifests: list[Manifest], patch: Manifest) -> Iterator[Manifest]:
    target = patch["target"]
    chosen = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (target["kind"], target["name"])]
    if len(chosen) != 1:
        raise ValueError(f"{target} names {len(chosen)} resources")
    for manifest in manifests:
        yield jsonpatch.apply_patch(manifest, yaml.safe_load(patch["patch"])) if manifest is chosen[0] else manifest
