"""Task heads on stored vectors: a head is data, served with numpy, trained apart, swapped while serving."""

from embedder_heads.errors import HeadError, HeadInvalid, HeadNameInvalid, HeadNotFound, HeadSpaceMismatch
from embedder_heads.head_file import Head, HeadManifest, load_head, save_head
from embedder_heads.kinds import HeadKind, Task
from embedder_heads.metric import Metric
from embedder_heads.plan import HeadOutput, PackedOutput
from embedder_heads.registry import HeadRegistry
from embedder_heads.runtime import HeadRuntime, HeadSnapshot, RefreshReport, ServedHead

__all__ = [
    "Head",
    "HeadError",
    "HeadInvalid",
    "HeadKind",
    "HeadManifest",
    "HeadNameInvalid",
    "HeadNotFound",
    "HeadOutput",
    "HeadRegistry",
    "HeadRuntime",
    "HeadSnapshot",
    "HeadSpaceMismatch",
    "Metric",
    "PackedOutput",
    "RefreshReport",
    "ServedHead",
    "Task",
    "load_head",
    "save_head",
]
