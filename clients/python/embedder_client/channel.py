"""How a channel to the service is opened: options, credentials, metadata, and the methods that it offers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import grpc

from embedder_client import __version__
from embedder_client.errors import InvalidRequest
from embedder_client.replica_addresses import ReplicaAddress
from embedder_client.settings import ClientSettings
from embedder_client.v1 import (
    admin_service_pb2_grpc,
    embedding_service_pb2_grpc,
    head_service_pb2_grpc,
    savings_service_pb2_grpc,
)

CLIENT_NAME_KEY = "embedder-client"
TENANT_KEY = "embedder-tenant"

_STUBS: tuple[Callable[[Any], Any], ...] = (
    embedding_service_pb2_grpc.EmbeddingServiceStub,
    head_service_pb2_grpc.HeadServiceStub,
    savings_service_pb2_grpc.SavingsServiceStub,
    admin_service_pb2_grpc.AdminServiceStub,
)
_LOCAL_SCHEMES = ("unix:", "unix-abstract:")
_ADDRESS_SCHEMES = ("dns:///", "dns:", "ipv4:", "ipv6:")
# One that comes back is noticed within a second or so, and one whose machine is gone does not hold a call for long.
_REPLICA_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
_LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Connection:
    """An open channel of either gRPC API, with what every call on it needs."""

    channel: Any
    methods: Mapping[str, Callable[..., Any]]
    """The callables of every RPC, by name."""
    metadata: tuple[tuple[str, str], ...]
    """Goes with every call: who asks, and the bearer token."""


def open_connection(
    api: Any, target: str, settings: ClientSettings, credentials: grpc.ChannelCredentials | None
) -> Connection:
    """Open a channel; the first call connects.

    Args:
        api: the module `grpc` or `grpc.aio`; a channel of the latter belongs to the running event loop.
        target: where the service listens, as gRPC names it.
        settings: options and metadata.
        credentials: from `channel_credentials`; None for plaintext.
    """
    options = channel_options(target, settings)
    channel = (
        api.insecure_channel(target, options)
        if credentials is None
        else api.secure_channel(target, credentials, options)
    )
    return Connection(channel, channel_methods(channel), call_metadata(settings))


def open_replica(api: Any, address: ReplicaAddress, settings: ClientSettings) -> Connection:
    """Open a channel to one of several replicas; who else can answer is asked at once, so gRPC itself tries nothing again.

    Raises:
        InvalidRequest: a bearer token would travel in plaintext to another machine.
    """
    target = address.target
    credentials = channel_credentials(target, settings)
    options = [*channel_options(target, replace(settings, retry_attempts=1)), *_REPLICA_OPTIONS]
    if credentials is None:
        channel = api.insecure_channel(target, options)
    else:
        if address.host:  # found by DNS: the certificate bears the name, not the number
            options.append(("grpc.ssl_target_name_override", address.host))
        channel = api.secure_channel(target, credentials, options)
    return Connection(channel, channel_methods(channel), call_metadata(settings))


def channel_methods(channel: Any) -> Mapping[str, Callable[..., Any]]:
    """Return the callables of every RPC by name; works on the channels of both gRPC APIs."""
    return {name: method for stub in _STUBS for name, method in vars(stub(channel)).items()}


def channel_options(target: str, settings: ClientSettings) -> list[tuple[str, str | int]]:
    """Return gRPC's channel arguments.

    An unavailable service is retried by gRPC itself, and so is a stream that was turned away; a refused call is sent again by the
    client, when the service asks for it (`pushback`). gRPC's buffer must hold the largest message, or a larger
    request is committed at once and never retried (the default is 256 KiB). A proxy of the environment is for the way
    to other machines; gRPC would ask it for loopback too.
    """
    retry = {
        "maxAttempts": settings.retry_attempts,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    stream = retry | {"retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}
    config = {
        "methodConfig": [
            {"name": [{}], "retryPolicy": retry},
            {"name": [{"service": "embedder.v1.EmbeddingService", "method": "EmbedStream"}], "retryPolicy": stream},
        ]
    }
    return [
        ("grpc.enable_retries", int(settings.retry_attempts > 1)),
        ("grpc.service_config", json.dumps(config if settings.retry_attempts > 1 else {})),
        ("grpc.per_rpc_retry_buffer_size", settings.max_send_bytes + 64 * 1024),
        ("grpc.max_send_message_length", settings.max_send_bytes),
        ("grpc.max_receive_message_length", settings.max_receive_bytes),
        ("grpc.keepalive_time_ms", int(settings.keepalive_time_s * 1000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.enable_http_proxy", int(not _is_local(target))),
        ("grpc.primary_user_agent", f"embedder-client/{__version__}"),
    ]


def channel_credentials(target: str, settings: ClientSettings) -> grpc.ChannelCredentials | None:
    """Return the TLS credentials; None for plaintext.

    Raises:
        InvalidRequest: a bearer token would travel in plaintext to another machine.
    """
    if settings.tls or settings.tls_root_certificates is not None:
        return grpc.ssl_channel_credentials(settings.tls_root_certificates)
    if settings.bearer_token and not settings.plaintext_token and not _is_local(target):
        raise InvalidRequest(
            f"the bearer token would travel to {target} in plaintext: set tls=True, "
            "or plaintext_token=True if the network itself encrypts"
        )
    return None


def call_metadata(settings: ClientSettings) -> tuple[tuple[str, str], ...]:
    """Return the metadata that goes with every call: who asks, who is charged, and the bearer token."""
    metadata = [(CLIENT_NAME_KEY, settings.client_name)]
    if settings.tenant:
        metadata.append((TENANT_KEY, settings.tenant))
    if settings.bearer_token:
        metadata.append(("authorization", f"Bearer {settings.bearer_token}"))
    return tuple(metadata)


def _is_local(target: str) -> bool:
    """Tell whether a target is this machine: a Unix socket or a loopback address."""
    scheme = next((scheme for scheme in _ADDRESS_SCHEMES if target.startswith(scheme)), "")
    host = target.removeprefix(scheme).rsplit(":", 1)[0].strip("[]")
    return target.startswith(_LOCAL_SCHEMES) or host in _LOOPBACK_HOSTS
