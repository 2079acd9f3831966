"""The guard before every call: who may call, and what an exception becomes on the wire."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import structlog

from embedder.errors import EmbedderError, Unauthenticated
from embedder.server.error_table import abort, row_of
from embedder_cache import CacheError
from embedder_heads.errors import HeadError

_log = structlog.get_logger(__name__)

# Probes carry no token, and health tells nothing but whether the service is up.
_OPEN_TO_ALL = "/grpc.health.v1.Health/"

KNOWN_ERRORS = (EmbedderError, CacheError, HeadError)
WITHOUT_TOKEN = "the call needs 'authorization: Bearer TOKEN' in its metadata; it has none, or another token"


class CallGuard(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc ships no types
    """Checks the bearer token, turns exceptions into statuses by the error table, and logs calls."""

    def __init__(self, *, bearer_token: str | None) -> None:
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
            return _rebuild(handler, lambda _, context: abort(context, refused), _abort_stream(refused))
        return _rebuild(handler, _guard_unary(method, handler), _guard_stream(method, handler))

    def _is_authorized(self, details: grpc.HandlerCallDetails) -> bool:
        if self._expected is None:
            return True
        given = dict(details.invocation_metadata).get("authorization", "")
        return hmac.compare_digest(given if isinstance(given, bytes) else given.encode(), self._expected)


_Behavior = Callable[[Any, grpc.ServicerContext], Any]


def _rebuild(handler: grpc.RpcMethodHandler, unary: _Behavior, stream: _Behavior) -> grpc.RpcMethodHandler:
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


def _guard_unary(method: str, handler: grpc.RpcMethodHandler) -> _Behavior:
    inner = handler.stream_unary if handler.request_streaming else handler.unary_unary

    def behave(request: Any, context: grpc.ServicerContext) -> Any:
        start = time.perf_counter()
        try:
            reply = inner(request, context)
        except KNOWN_ERRORS as error:
            log_refusal(method, error, start)
            abort(context, error)
        except Exception as error:
            if context.code() is not None:  # the handler aborted by itself
                raise
            _log.exception("call failed", method=method)
            abort(context, error)
        _log.debug("call", method=method, seconds=round(time.perf_counter() - start, 6))
        return reply

    return behave


def _guard_stream(method: str, handler: grpc.RpcMethodHandler) -> _Behavior:
    inner = handler.stream_stream if handler.request_streaming else handler.unary_stream

    def behave(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        start = time.perf_counter()
        try:
            yield from inner(request, context)
        except KNOWN_ERRORS as error:
            log_refusal(method, error, start)
            abort(context, error)
        except Exception as error:
            if context.code() is not None:
                raise
            _log.exception("stream failed", method=method)
            abort(context, error)

    return behave


def _abort_stream(error: EmbedderError) -> _Behavior:
    def behave(_: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        abort(context, error)
        yield

    return behave


def log_refusal(method: str, error: Exception, start: float) -> None:
    """Say at debug level why a call was refused."""
    seconds = round(time.perf_counter() - start, 6)
    _log.debug("call refused", method=method, reason=row_of(error).reason, error=str(error), seconds=seconds)
