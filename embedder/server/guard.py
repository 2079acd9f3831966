"""The guard before every call: who may call, and what an exception becomes on the wire."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
import structlog

from embedder.errors import EmbedderError, Unauthenticated
from embedder.server.error_table import abort, row_of
from embedder.server.traced import Behavior, traced_stream, traced_unary
from embedder.telemetry.observer import ServiceObserver
from embedder_cache import CacheError
from embedder_heads.errors import HeadError

_log = structlog.get_logger(__name__)

# Probes carry no token, and health tells nothing but whether the service is up.
_OPEN_TO_ALL = "/grpc.health.v1.Health/"

KNOWN_ERRORS = (EmbedderError, CacheError, HeadError)
WITHOUT_TOKEN = "the call needs 'authorization: Bearer TOKEN' in its metadata; it has none, or another token"


class CallGuard(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc ships no types
    """Checks the bearer token, turns exceptions into statuses by the error table, and logs, counts and traces calls."""

    def __init__(self, *, bearer_token: str | None, observer: ServiceObserver) -> None:
        self._observer = observer
        self._expected = None if bearer_token is None else f"Bearer {bearer_token}".encode()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Wrap a call's handler."""
        handler = continuation(details)
        if handler is None:
            return None
        method = details.method
        if not (method.startswith(_OPEN_TO_ALL) or self._is_authorized(details)):
            refused = Unauthenticated(WITHOUT_TOKEN)
            self._observer.call_ended(method, row_of(refused).reason, 0.0)
            return _rebuild(handler, lambda _, context: abort(context, refused), _abort_stream(refused))
        tracing = self._observer.tracing
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            if tracing:
                inner = traced_stream(tracing, details, inner)
            return _rebuild(handler, None, _guard_stream(method, inner, self._observer))
        if tracing:
            inner = traced_unary(tracing, details, inner)
        return _rebuild(handler, _guard_unary(method, inner, self._observer), None)

    def _is_authorized(self, details: grpc.HandlerCallDetails) -> bool:
        if self._expected is None:
            return True
        given = dict(details.invocation_metadata).get("authorization", "")
        return hmac.compare_digest(given if isinstance(given, bytes) else given.encode(), self._expected)


def _rebuild(handler: grpc.RpcMethodHandler, unary: Behavior | None, stream: Behavior | None) -> grpc.RpcMethodHandler:
    """Return a handler of the same shape with another behavior: `unary` gives one reply, `stream` many."""
    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    maker = makers[handler.request_streaming, handler.response_streaming]
    behavior = stream if handler.response_streaming else unary
    return maker(behavior, handler.request_deserializer, handler.response_serializer)


def _guard_unary(method: str, inner: Behavior, observer: ServiceObserver) -> Behavior:
    def behave(request: Any, context: grpc.ServicerContext) -> Any:
        start = time.perf_counter()
        try:
            reply = inner(request, context)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            _refuse(method, error, context, observer, start)
        seconds = time.perf_counter() - start
        observer.call_ended(method, "OK", seconds)
        _log.debug("call", method=method, seconds=round(seconds, 6))
        return reply

    return behave


def _guard_stream(method: str, inner: Behavior, observer: ServiceObserver) -> Behavior:
    def behave(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        start = time.perf_counter()
        try:
            yield from inner(request, context)
        except GeneratorExit:
            observer.call_ended(method, "CANCELLED", time.perf_counter() - start)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told
            _refuse(method, error, context, observer, start)
        observer.call_ended(method, "OK", time.perf_counter() - start)

    return behave


def _refuse(
    method: str, error: Exception, context: grpc.ServicerContext, observer: ServiceObserver, start: float
) -> NoReturn:
    """Count a call that failed, log it, and tell the caller why."""
    seconds = time.perf_counter() - start
    if not isinstance(error, KNOWN_ERRORS) and context.code() is not None:  # the handler aborted by itself
        observer.call_ended(method, context.code().name, seconds)
        raise error
    reason = row_of(error).reason
    observer.call_ended(method, reason, seconds)
    if isinstance(error, KNOWN_ERRORS):
        log_refusal(method, error, start)
    else:
        _log.exception("call failed", method=method)
    abort(context, error)


def _abort_stream(error: EmbedderError) -> Behavior:
    def behave(_: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        abort(context, error)
        yield

    return behave


def log_refusal(method: str, error: Exception, start: float) -> None:
    """Say at debug level why a call was refused."""
    seconds = round(time.perf_counter() - start, 6)
    _log.debug("call refused", method=method, reason=row_of(error).reason, error=str(error), seconds=seconds)
