"""The live generations of a folder: opening, adding, dropping, setting damaged ones aside."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

from embedder_cache.catalogue import Catalogue
from embedder_cache.errors import CacheDamaged
from embedder_cache.generation import Generation, generation_name
from embedder_cache.settings import CacheSettings

_log = logging.getLogger(__name__)

_QUARANTINE = "quarantine"
_PATTERN = "generation-*"


class Generations:
    """The generations that are read, the newest first.

    `live` is replaced as a whole and never changed, so a reader takes it once and needs no lock; a dropped generation's
    files stay mapped until the last batch that reads them is done.
    """

    def __init__(self, folder: Path, catalogue: Catalogue, settings: CacheSettings, *, writable: bool) -> None:
        """Open every generation that the catalogue names; the writer sets damaged ones aside and makes the first."""
        self._folder = folder
        self._catalogue = catalogue
        self._settings = settings
        self._writable = writable
        self._version = -1
        self.live: tuple[Generation, ...] = ()
        self.quarantined = 0
        self.refresh()
        if writable:
            self._remove_strangers()
            if not self.live:
                self.add()

    @property
    def newest(self) -> Generation:
        """The generation that is written to."""
        return self.live[0]

    def refresh(self) -> None:
        """Follow what another process changed in the catalogue; costs about a microsecond when nothing did."""
        version = self._catalogue.version
        if version == self._version:
            return
        held = {generation.sequence: generation for generation in self.live}
        opened = []
        for sequence in self._catalogue.generations():
            generation = held.get(sequence) or self._open(sequence)
            if generation:
                opened.append(generation)
        self.live = tuple(opened)
        self._version = version

    def _open(self, sequence: int) -> Generation | None:
        path = self._folder / generation_name(sequence)
        try:
            if not path.exists():
                raise CacheDamaged(f"{path.name} is missing")
            return Generation(path, sequence=sequence, settings=self._settings, writable=self._writable)
        except CacheDamaged as error:
            _log.error("%s; its contents are treated as missing", error)
            if self._writable:
                self._set_aside(sequence)
            return None

    def add(self) -> Generation:
        """Start a new generation; it becomes the newest.

        Raises:
            OSError, lmdb.Error: the file system refuses; the generations are as before.
        """
        sequence = 1 + max((generation.sequence for generation in self.live), default=0)
        path = self._folder / generation_name(sequence)
        shutil.rmtree(path, ignore_errors=True)
        generation = Generation(path, sequence=sequence, settings=self._settings, writable=True)
        self._catalogue.add_generation(sequence)
        self.live = (generation, *self.live)
        return generation

    def drop(self, generation: Generation) -> None:
        """Take a generation out of service and unlink its files."""
        self._catalogue.remove_generation(generation.sequence)
        self.live = tuple(other for other in self.live if other is not generation)
        generation.unlink()

    def quarantine(self, sequence: int) -> None:
        """Set a generation aside that was found damaged while it was open, and go on without it."""
        rest = tuple(generation for generation in self.live if generation.sequence != sequence)
        if len(rest) == len(self.live):
            return  # several batches met it before it was gone
        self.live = rest
        self._set_aside(sequence)
        if not self.live:
            self.add()

    def _set_aside(self, sequence: int) -> None:
        """Move a generation's files into the quarantine, where only the latest one is kept, for a person to look at."""
        self._catalogue.remove_generation(sequence)
        self.quarantined += 1
        quarantine = self._folder / _QUARANTINE
        shutil.rmtree(quarantine, ignore_errors=True)
        path = self._folder / generation_name(sequence)
        if path.exists():
            quarantine.mkdir(mode=0o700)
            path.rename(quarantine / f"{path.name}-{int(time.time())}")

    def _remove_strangers(self) -> None:
        """Remove folders that a crash left behind between making and registering, or between dropping and unlinking."""
        known = {generation.path for generation in self.live}
        for path in self._folder.glob(_PATTERN):
            if path not in known:
                shutil.rmtree(path, ignore_errors=True)
