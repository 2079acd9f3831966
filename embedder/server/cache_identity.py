"""The cache's own name: what clients of several replicas place this one by, whatever address it has today."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

_ID_BYTES = 16


def load_cache_id(data_dir: Path) -> str:
    """Read the name, 32 hexadecimal digits, making it when the data folder is new.

    Raises:
        OSError: the folder can't be read or written.
    """
    path = data_dir / "cache.id"
    if not path.exists():
        with NamedTemporaryFile("w", dir=data_dir, prefix="cache.id.") as file:
            file.write(secrets.token_hex(_ID_BYTES))
            file.flush()
            # Several processes of one service may start at once: whoever links first has named it.
            with suppress(FileExistsError):
                path.hardlink_to(file.name)
    return path.read_text().strip()
