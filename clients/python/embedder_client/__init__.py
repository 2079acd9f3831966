"""The light client of embedder-serve: shared embeddings, heads and savings as numpy arrays.

Importing this package imports nothing else: names load their module at first use (PEP 562), so that
`embedder_client.content_hash` serves programs that have neither gRPC nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from embedder_client import errors
    from embedder_client.async_client import AsyncClient
    from embedder_client.client import Client
    from embedder_client.content_hash import hash_content, hash_image, hash_post, hash_text, hash_texts, hash_video
    from embedder_client.contents import ContentHash, Image, Post, Text, Video, VideoFile
    from embedder_client.errors import EmbedderClientError
    from embedder_client.figures import Basis, BatchShape, Cost, Figure, Provenance, Timings
    from embedder_client.filters import NumberRange, Rerank
    from embedder_client.heads import (
        AnswerEnd,
        AnswerPiece,
        HeadInfo,
        HeadKind,
        HeadList,
        HeadPrediction,
        Hit,
        IndexInfo,
        PredictResult,
        RecommendResult,
        RetrieveResult,
        ScoreResult,
    )
    from embedder_client.reports import CacheStats, SpaceInfo, SpaceList, SpaceState, UnservedSpace
    from embedder_client.results import EmbedResult, ItemFailure, ItemSource, LookupResult, VideoSegments
    from embedder_client.savings import (
        HeadTerm,
        RoadCost,
        SavingsFormula,
        SavingsReport,
        SavingsRow,
        SensitivityPoint,
        UncleanStop,
    )
    from embedder_client.settings import ClientSettings
    from embedder_client.vectors import Dtype, PackedVectors

_MODULES = {
    "async_client": ("AsyncClient",),
    "client": ("Client",),
    "content_hash": ("hash_content", "hash_image", "hash_post", "hash_text", "hash_texts", "hash_video"),
    "contents": ("ContentHash", "Image", "Post", "Text", "Video", "VideoFile"),
    "errors": ("EmbedderClientError",),
    "figures": ("Basis", "BatchShape", "Cost", "Figure", "Provenance", "Timings"),
    "filters": ("NumberRange", "Rerank"),
    "heads": (
        "AnswerEnd",
        "AnswerPiece",
        "BridgeUse",
        "HeadInfo",
        "HeadKind",
        "HeadList",
        "HeadPrediction",
        "Hit",
        "IndexInfo",
        "PredictResult",
        "RecommendResult",
        "RetrieveResult",
        "ScoreResult",
    ),
    "reports": ("CacheStats", "SpaceInfo", "SpaceList", "SpaceState", "UnservedSpace"),
    "savings": (
        "HeadTerm",
        "RoadCost",
        "SavingsFormula",
        "SavingsReport",
        "SavingsRow",
        "SensitivityPoint",
        "UncleanStop",
    ),
    "results": ("EmbedResult", "ItemFailure", "ItemSource", "LookupResult", "VideoSegments"),
    "settings": ("ClientSettings",),
    "vectors": ("Dtype", "PackedVectors"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AnswerEnd",
    "AnswerPiece",
    "AsyncClient",
    "Basis",
    "BatchShape",
    "BridgeUse",
    "CacheStats",
    "Client",
    "ClientSettings",
    "ContentHash",
    "Cost",
    "Dtype",
    "EmbedResult",
    "EmbedderClientError",
    "Figure",
    "HeadInfo",
    "HeadKind",
    "HeadList",
    "HeadPrediction",
    "HeadTerm",
    "Hit",
    "Image",
    "IndexInfo",
    "ItemFailure",
    "ItemSource",
    "LookupResult",
    "NumberRange",
    "PackedVectors",
    "Post",
    "PredictResult",
    "Provenance",
    "RecommendResult",
    "Rerank",
    "RetrieveResult",
    "RoadCost",
    "SavingsFormula",
    "SavingsReport",
    "SavingsRow",
    "ScoreResult",
    "SensitivityPoint",
    "SpaceInfo",
    "SpaceList",
    "SpaceState",
    "Text",
    "Timings",
    "UncleanStop",
    "UnservedSpace",
    "Video",
    "VideoFile",
    "VideoSegments",
    "errors",
    "hash_content",
    "hash_image",
    "hash_post",
    "hash_text",
    "hash_texts",
    "hash_video",
]


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("embedder_client.errors")
    if name in _HOMES:
        value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
