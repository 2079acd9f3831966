"""The domain secret: what keeps one tenant's keys apart from another's."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from embedder.errors import ConfigurationError

_SECRET_BYTES = 32


def load_domain_secret(data_dir: Path, key_file: Path | None = None) -> bytes:
    """Read the secret of this service's domain, 32 bytes, making it when the data folder is new.

    Who loses it loses the cache: the same content gets another key.

    Args:
        data_dir: the data folder, whose `domain.key` it is.
        key_file: a file that holds it instead, and is never made.
    Raises:
        ConfigurationError: the file is there and holds no secret, or `key_file` can't be read.
    """
    if key_file is not None:
        return _read_given(key_file)
    path = data_dir / "domain.key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = path.read_bytes()
        if len(secret) != _SECRET_BYTES:
            message = (
                f"{path} has {len(secret)} bytes, not {_SECRET_BYTES}: restore it, or remove it together with the cache"
            )
            raise ConfigurationError(message) from None
        return secret
    with os.fdopen(descriptor, "wb") as file:
        secret = secrets.token_bytes(_SECRET_BYTES)
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    return secret


def _read_given(path: Path) -> bytes:
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"domain_key_file={str(path)!r} can't be read: {error.strerror or error}") from error
    if len(secret) != _SECRET_BYTES:
        raise ConfigurationError(
            f"domain_key_file={str(path)!r} has {len(secret)} bytes, not {_SECRET_BYTES}: make one with "
            f"`head -c {_SECRET_BYTES} /dev/urandom`"
        )
    return secret
