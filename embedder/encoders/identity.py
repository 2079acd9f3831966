"""Identity: the digest of what a loaded model is, down to its last weight."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch

IDENTITY_VERSION = "1"
"""Raised when the meaning of an identity's entries changes, so that old vectors are not taken for new ones."""

# Names of safetensors' dtypes, so that a digest does not hang on how a library prints its types.
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# Parts of a configuration that say where a model came from or how it was trained, and never shape a vector.
_PROVENANCE = (
    "_name_or_path",
    "transformers_version",
    "architectures",
    "torch_dtype",
    "dtype",
    "use_cache",
    "gradient_checkpointing",
)


def digest_weights(weights: Mapping[str, torch.Tensor]) -> str:
    """Name a set of weights: equal exactly if every name, dtype, shape and byte is equal.

    Args:
        weights: name to tensor, such as a module's `state_dict()`.
    Returns:
        64 hexadecimal digits: SHA-256 over the entries in the order of their names, each part length-prefixed.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        header = json.dumps([name, _DTYPES[tensor.dtype], list(tensor.shape)]).encode()
        digest.update(len(header).to_bytes(8, "little"))
        digest.update(header)
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_config(config: Mapping[str, object]) -> str:
    """Name an architecture: SHA-256 of its configuration as canonical JSON, without what only tells its origin."""
    shaping = {key: value for key, value in config.items() if key not in _PROVENANCE}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True, default=str).encode()).hexdigest()
