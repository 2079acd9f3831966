"""The client's exception tree: whatever a call raises on purpose is one of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedder_client.results import ItemFailure


@dataclass(frozen=True)
class ErrorDetails:
    """What a status says beside its message; empty where the service sent nothing."""

    code: str = ""
    """Name of the gRPC status code, such as "INVALID_ARGUMENT"; empty when no call was made."""
    reason: str = ""
    """The error's constant name, such as "UNKNOWN_SPACE"."""
    domain: str = ""
    """Who defines the reason: "embedder.v1" for the service."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the reason concerns, such as the limit and the value that was given."""
    field_violations: Mapping[str, str] = field(default_factory=dict)
    """Fields of the request that are wrong, and why."""
    retry_after_ms: int | None = None
    """When the service wants to be asked again."""


class EmbedderClientError(Exception):
    """Root of everything that the client raises on purpose.

    Attributes:
        details: the status code, reason and metadata that the service sent.
    """

    def __init__(self, message: str, details: ErrorDetails | None = None) -> None:
        super().__init__(message)
        self.details = details or ErrorDetails()


class ConnectionFailed(EmbedderClientError):
    """No answer came: nobody listens, the connection broke, or the service is starting or draining."""


class DeadlineExceeded(EmbedderClientError):
    """No answer came within the call's time."""


class Overloaded(EmbedderClientError):
    """The service turned the call away, and every attempt after it."""

    @property
    def retry_after_ms(self) -> int | None:
        """When the service wants to be asked again, in milliseconds from its answer; None if it did not say."""
        return self.details.retry_after_ms


class InvalidRequest(EmbedderClientError):
    """An argument is wrong; raised before anything is sent where the client can tell."""


class NotFound(EmbedderClientError):
    """No space, alias, head or index has this name."""


class Unauthenticated(EmbedderClientError):
    """The bearer token is missing, wrong, or does not allow this call."""


class FailedPrecondition(EmbedderClientError):
    """The call does not fit the service's state, such as a head of another space."""


class Unimplemented(EmbedderClientError):
    """The wire knows the call, and the version of the service that runs does not serve it."""


class Internal(EmbedderClientError):
    """The service failed, or its answer contradicts itself."""


class ItemFailed(EmbedderClientError):
    """One item of a batch failed; its neighbours did not.

    Attributes:
        failure: the item's position and why it failed.
    """

    def __init__(self, failure: ItemFailure) -> None:
        super().__init__(
            f"item {failure.index}: {failure.message}",
            ErrorDetails(code=failure.code, reason=failure.reason, metadata=failure.metadata),
        )
        self.failure = failure


class ItemsFailed(EmbedderClientError, ExceptionGroup[ItemFailed]):
    """The failed items of one call, as `raise_for_failures` raises them; `except*` sees each one."""

    def __new__(cls, message: str, exceptions: Sequence[ItemFailed]) -> ItemsFailed:
        """Make the group; called by Python before `__init__`."""
        return ExceptionGroup.__new__(cls, message, list(exceptions))

    def __init__(self, message: str, exceptions: Sequence[ItemFailed]) -> None:
        del exceptions  # __new__ has taken them.
        EmbedderClientError.__init__(self, message)

    def derive(self, excs: Sequence[ItemFailed]) -> ItemsFailed:  # type: ignore[override]  # only ItemFailed is inside
        """Make a group of some of the failures; called by `except*` and `split`."""
        return ItemsFailed(self.message, excs)
