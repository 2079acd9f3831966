"""The space that a job's vectors belong to: pinned when it first runs, so that no job ever mixes two."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from embedder.backfill.manifest import write_whole
from embedder.encoders.base import EncoderInfo
from embedder.errors import ConfigurationError

_NAME = "space.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedSpace:
    """One embedding space.

    Attributes:
        digest: 32 bytes in hexadecimal.
        dim: components of a vector.
        model: the encoder in words.
        numerics: its numerics class.
    """

    digest: str
    dim: int
    model: str
    numerics: str

    @classmethod
    def of(cls, info: EncoderInfo) -> PinnedSpace:
        """Return the space of a loaded encoder."""
        return cls(digest=info.space_digest.hex(), dim=info.dim, model=info.summary, numerics=info.numerics)

    @classmethod
    def read(cls, folder: Path) -> PinnedSpace | None:
        """Read what a job is pinned to; None where it has not run yet."""
        try:
            return cls(**json.loads((folder / _NAME).read_text()))
        except FileNotFoundError:
            return None
        except (OSError, TypeError, ValueError) as error:
            raise ConfigurationError(f"{folder / _NAME} can't be read: {error}") from error

    def write(self, folder: Path) -> None:
        """Pin a job to this space."""
        write_whole(folder / _NAME, json.dumps(asdict(self), indent=1).encode())

    def check(self, info: EncoderInfo) -> None:
        """Refuse an encoder of another space; raises ConfigurationError."""
        if info.space_digest.hex() != self.digest:
            raise ConfigurationError(
                f"this job's vectors are of the space {self.digest[:16]} ({self.model}); the encoder that was loaded makes "
                f"{info.space_digest.hex()[:16]} ({info.summary}): start another job for it, or set the model and precision of before"
            )
