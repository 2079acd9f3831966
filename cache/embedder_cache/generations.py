"""The live generations of a folder and their guide: opening, adding, dropping, setting damaged ones aside."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from pathlib import Path

import lmdb

from embedder_cache.catalogue import Catalogue
from embedder_cache.errors import CacheDamaged, CacheError
from embedder_cache.generation import Generation, GenerationRow, folder_bytes, sync_folder
from embedder_cache.guide import GUIDE_FILE, Guide, open_guide
from embedder_cache.settings import CacheSettings, Durability

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
        self.folder = folder
        self._catalogue = catalogue
        self._settings = settings
        self._writable = writable
        self._version = -1
        self.live: tuple[Generation, ...] = ()
        self.guide: Guide | None = None
        self.quarantined = 0
        self._refreshing = threading.Lock()
        if writable:
            self._adopt()
        self._follow()
        if writable:
            self._remove_strangers()
            if not self.live:
                self.add()
            self.newest.wipe_tail()

    def close(self) -> None:
        """Close every index; waits for the threads of this process that read."""
        live, self.live = self.live, ()
        for generation in live:
            generation.index.close()

    @property
    def newest(self) -> Generation:
        """The generation that is written to."""
        return self.live[0]

    @property
    def era(self) -> int:
        """The number that hits are marked with: the newest generation's place in age."""
        live = self.live
        return live[0].row.order if live else 0

    def refresh(self) -> None:
        """Follow what another process changed in the catalogue; costs about a microsecond when nothing did.

        What can't be followed now is tried again at the next call; what was open stays in use.
        """
        if self._catalogue.version == self._version or not self._refreshing.acquire(blocking=False):
            return
        try:
            self._follow()
        except (CacheError, OSError, lmdb.Error) as error:
            _log.error("the catalogue can't be followed, and what was open stays in use: %s", error)
        finally:
            self._refreshing.release()

    def _follow(self) -> None:
        version = self._catalogue.version
        held = {generation.sequence: generation for generation in self.live}
        opened = [held.get(row.sequence) or self._open(row) for row in self._catalogue.generations()]
        self.live = tuple(generation for generation in opened if generation)
        self.guide = open_guide(self.folder / GUIDE_FILE, writable=self._writable)
        self._version = version

    def _open(self, row: GenerationRow) -> Generation | None:
        path = self.folder / row.folder
        if not self._writable and not path.exists():
            return None  # dropped since the catalogue was read
        try:
            if not path.exists():
                raise CacheDamaged(f"{path.name} is missing")
            return Generation(path, row, self._settings, writable=self._writable)
        except CacheDamaged as error:
            _log.error("%s; its contents are treated as missing", error)
            if self._writable:
                self._set_aside(row)
            return None

    def create(self, *, order: int, created: int) -> Generation:
        """Make an empty generation that is not live yet.

        Raises:
            OSError, CacheDamaged: the file system refuses; nothing is left behind that counts.
        """
        sequence = self._catalogue.next_sequence()
        row = GenerationRow(sequence=sequence, order=order, created=created)
        path = self.folder / row.folder
        shutil.rmtree(path, ignore_errors=True)
        generation = Generation(path, row, self._settings, writable=True)
        if self._settings.durability is Durability.FULL:
            generation.sync_folders()
            sync_folder(self.folder)
        return generation

    def add(self) -> Generation:
        """Start a new generation; it becomes the newest.

        Raises:
            OSError, CacheDamaged, lmdb.Error: the file system refuses; the generations are as before.
        """
        order = 1 + max((other.row.order for other in self.live), default=0)
        generation = self.create(order=order, created=int(time.time()))
        self._catalogue.replace_generations(add=generation.row)
        self.live = (generation, *self.live)
        return generation

    def replace(self, old: Generation, new: Generation) -> None:
        """Put a compacted generation in its predecessor's place."""
        self._catalogue.replace_generations(add=new.row, remove=old.row)
        self.live = tuple(new if other is old else other for other in self.live)
        old.unlink()

    def drop(self, generation: Generation) -> None:
        """Take a generation out of service and unlink its files."""
        self._catalogue.replace_generations(remove=generation.row)
        self.live = tuple(other for other in self.live if other is not generation)
        generation.unlink()

    def quarantine(self, sequence: int) -> None:
        """Set a generation aside that was found damaged while it was open, and go on without it."""
        damaged = [generation for generation in self.live if generation.sequence == sequence]
        if not damaged:
            return  # several batches met it before it was gone
        self.live = tuple(generation for generation in self.live if generation.sequence != sequence)
        self._set_aside(damaged[0].row)
        if not self.live:
            self.add()

    def clear_quarantine(self) -> None:
        """Remove what was set aside; what is to be erased must not survive there."""
        shutil.rmtree(self.folder / _QUARANTINE, ignore_errors=True)

    def replace_guide(self, *, entries: int) -> Guide:
        """Make a new, empty guide with room for a quarter more than `entries`.

        Raises:
            OSError: the file system refuses; the guide is as before.
        """
        self.guide = Guide.create(self.folder / GUIDE_FILE, entries=entries)
        self._catalogue.announce_guide(self.guide.identity, filled=False)
        return self.guide

    def overhead_bytes(self) -> int:
        """Bytes of all files that belong to no live generation; asks the file system."""
        return folder_bytes(self.folder) - sum(generation.file_bytes for generation in self.live)

    def _set_aside(self, row: GenerationRow) -> None:
        """Move a generation's files into the quarantine, where only the latest one is kept, for a person to look at."""
        self._catalogue.replace_generations(remove=row)
        self.quarantined += 1
        self.clear_quarantine()
        path = self.folder / row.folder
        if path.exists():
            quarantine = self.folder / _QUARANTINE
            quarantine.mkdir(mode=0o700)
            path.rename(quarantine / f"{path.name}-{int(time.time())}")

    def _adopt(self) -> None:
        """Enter the folders that are there into a catalogue that names none, because it is new or was damaged."""
        if self._catalogue.generations():
            return
        for path in sorted(self.folder.glob(_PATTERN)):
            number = path.name.rpartition("-")[2]
            if number.isdecimal():
                sequence = self._catalogue.next_sequence(above=int(number) - 1)
                row = GenerationRow(sequence=sequence, order=sequence, created=int(path.stat().st_mtime))
                self._catalogue.replace_generations(add=row)

    def _remove_strangers(self) -> None:
        """Remove folders that a crash left behind between making and registering, or between dropping and unlinking."""
        known = {generation.path for generation in self.live}
        for path in self.folder.glob(_PATTERN):
            if path not in known:
                shutil.rmtree(path, ignore_errors=True)
