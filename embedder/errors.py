"""The service's exception tree; `embedder/server/error_table.py` maps each type to a gRPC status."""

from __future__ import annotations

from typing import Self


class EmbedderError(Exception):
    """Root of everything that the service raises on purpose; the message says what was given and what is allowed.

    Attributes:
        post_field: name of the post's field that it concerns; empty where it concerns no post.
    """

    post_field = ""

    def in_post_field(self, name: str) -> Self:
        """Return the same error, said of a post's field."""
        message = f"field {name!r}: {self}"
        named = type(self).__new__(type(self), message)
        named.__dict__.update(self.__dict__, post_field=name)
        return named


# What a caller sent. Concerns one item; its neighbours are served.


class InvalidContent(EmbedderError):
    """The content itself can't be understood: empty, corrupt, of an unknown format."""


class LimitExceeded(InvalidContent):
    """The content is over a limit.

    Attributes:
        field: which setting limits it, such as `max_text_bytes`.
        limit: the setting's value, in the unit of its name.
        given: the content's value, in the same unit.
    """

    def __init__(self, message: str, *, field: str, limit: int, given: int) -> None:
        super().__init__(message)
        self.field = field
        self.limit = limit
        self.given = given


class UnsupportedModality(InvalidContent):
    """The space's encoder does not understand this medium."""


class ContentNotCached(EmbedderError):
    """Asked by hash alone, and no tier holds it: the content itself is wanted."""


# What a caller asked for. Concerns the whole call.


class InvalidRequest(EmbedderError):
    """An argument of the call is out of range or contradicts another."""


class MessageTooLarge(EmbedderError):
    """The request is over the limit of one message; it is to be split, or streamed."""


class UnknownSpace(EmbedderError):
    """No space or alias has this name."""


class SpaceConflict(EmbedderError):
    """What was asked of a space contradicts what is so: a name is taken, an alias was moved meanwhile, or still points there."""


class Unauthenticated(EmbedderError):
    """The bearer token is missing or wrong."""


class NotImplementedYet(EmbedderError):
    """The wire knows this call, and this version of the service does not serve it."""


# How the service is.


class Overloaded(EmbedderError):
    """More work is queued than the service answers in time.

    Attributes:
        retry_after_ms: when the caller should come back, from the work that is queued.
    """

    def __init__(self, message: str, *, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class StoreFailed(EmbedderError):
    """The vector was computed, and could not be made durable; a call that asked for that fails."""


class DeadlineExpired(EmbedderError):
    """The caller's deadline passed, or can't be met, before the work reached the device."""


class Unavailable(EmbedderError):
    """The service is starting, draining, or its engine is restarting."""


class EncoderError(EmbedderError):
    """The forward pass failed; no row of the batch is valid."""


class OutOfDeviceMemory(EncoderError):
    """The batch does not fit into the device's memory; half of it may."""


class NonFiniteVector(EncoderError):
    """The encoder made NaN or infinity for this content, in full precision too; it is never stored or served."""


# At start.


class ConfigurationError(EmbedderError):
    """A setting is wrong; the message says which, and what to do."""


class SpacesInvalid(ConfigurationError):
    """The registry of spaces is damaged or can't be followed; what was served before goes on being served."""


class EncoderLoadError(ConfigurationError):
    """A model could not be loaded; the message says what was asked for and what to do."""


class GoldenMismatch(ConfigurationError):
    """The loaded encoder does not give the vectors that it should; the service must not serve."""
