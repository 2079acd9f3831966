"""The exception tree of heads and indexes; the server maps each type to a gRPC status."""

from __future__ import annotations


class HeadError(Exception):
    """Root of everything that this package raises on purpose; the message says what was given and what is allowed."""


class HeadNameInvalid(HeadError):
    """A name, alias or reference is not of the allowed form, so it can never leave the registry's folder."""


class ArtifactNotFound(HeadError):
    """Nothing is published under this reference."""


class HeadNotFound(ArtifactNotFound):
    """No head, version or alias has this name."""


class IndexNotFound(ArtifactNotFound):
    """No index, version or alias has this name."""


class UserNotFound(ArtifactNotFound):
    """A recommender does not know this user."""


class ArtifactInUse(HeadError):
    """A version that an alias still points to is not removed."""


class HeadInvalid(HeadError):
    """A head's files are corrupt, incomplete, non-finite or not what their manifest says; it is never served."""


class IndexInvalid(HeadError):
    """An index's files are corrupt, incomplete or not what their manifest says; it is never served."""


class HeadSpaceMismatch(HeadError):
    """A head or index was made in another embedding space than the vectors it was asked about.

    Attributes:
        head: the head or index that was asked.
        wants: digest of the space that it was made in, 64 hex digits.
        has: digest of the space of the vectors, 64 hex digits.
    """

    def __init__(self, head: str, *, wants: str, has: str) -> None:
        super().__init__(f"{head} was made in space {wants[:16]}…, and the vectors are of space {has[:16]}…")
        self.head = head
        self.wants = wants
        self.has = has


class QueryInvalid(HeadError):
    """Vectors, filters or counts of a call are out of range or of the wrong shape."""


class TrainingDataInvalid(HeadError):
    """A labelled file can't be read or learned from; the message names the row."""


class GeneratorUnavailable(HeadError):
    """No language model can answer: none is set, or it can't be loaded; the message says what to do."""
