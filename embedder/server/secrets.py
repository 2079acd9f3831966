"""The domain secret: what keeps one tenant's keys apart from another's."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from embedder.errors import ConfigurationError

_SECRET_BYTES = 32


def load_domain_secret(data_dir: Path) -> bytes:
    """Read the secret of this service's domain, 32 bytes, making it when the data folder is new.

    Who loses it loses the cache: the same content gets another key.

    Raises:
        ConfigurationError: the file is there and holds no secret.
    """
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
