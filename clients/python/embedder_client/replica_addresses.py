"""The addresses of a service's replicas: named in the target, or found by DNS each time they are asked for."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from embedder_client.errors import ConnectionFailed, InvalidRequest

_STATIC = ("ipv4:", "ipv6:")
_RESOLVED = ("dns:///", "dns:")
_WITHOUT_REPLICAS = ("unix:", "unix-abstract:", "xds:")


@dataclass(frozen=True)
class ReplicaAddress:
    """Where one replica listens.

    Attributes:
        target: as gRPC names it; what a channel is opened to.
        host: the name that its certificate must bear; empty means that of `target`.
    """

    target: str
    host: str = ""


def check_replica_target(target: str) -> None:
    """Do nothing if replicas can be found by this target.

    Raises:
        InvalidRequest: they can't be.
    """
    if target.startswith(_WITHOUT_REPLICAS):
        raise InvalidRequest(
            f"locality=True needs the addresses of replicas, and {target!r} names one place: give dns:///name:port, "
            "dns:///a:port,b:port or ipv4:address:port,address:port"
        )
    for part in _parts(target):
        _host_and_port(part)


def find_replicas(target: str) -> list[ReplicaAddress]:
    """Return the replicas' addresses, sorted, each once; names are looked up in DNS, which takes time.

    Raises:
        ConnectionFailed: no name of the target is known.
        InvalidRequest: the target names no host and port.
    """
    scheme = next((scheme for scheme in _STATIC if target.startswith(scheme)), None)
    if scheme is not None:
        return sorted({ReplicaAddress(f"{scheme}{part}") for part in _parts(target)}, key=lambda found: found.target)
    found: set[ReplicaAddress] = set()
    reasons = []
    for part in _parts(target):
        host, port = _host_and_port(part)
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            reasons.append(f"{host}: {error}")
            continue
        for family, _, _, _, (number, *_) in answers:
            if family == socket.AF_INET6:
                found.add(ReplicaAddress(f"ipv6:[{number!s}]:{port}", host))
            else:
                found.add(ReplicaAddress(f"ipv4:{number!s}:{port}", host))
    if not found:
        raise ConnectionFailed(f"no replica of {target} is known: {'; '.join(reasons)}")
    return sorted(found, key=lambda address: address.target)


def _parts(target: str) -> list[str]:
    scheme = next((scheme for scheme in (*_STATIC, *_RESOLVED) if target.startswith(scheme)), "")
    return [part.strip() for part in target.removeprefix(scheme).split(",")]


def _host_and_port(part: str) -> tuple[str, int]:
    host, _, port = part.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise InvalidRequest(f"{part!r} names no replica: host:port is needed, such as embedder-0.embedder:50051")
    return host, int(port)
