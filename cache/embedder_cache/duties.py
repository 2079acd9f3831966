"""The writer's duties between commits: requests of other processes, dead readers, collecting, the guide."""

from __future__ import annotations

import logging
import time

from embedder_cache.catalogue import Catalogue, Request
from embedder_cache.collecting import Collector
from embedder_cache.committing import Committer
from embedder_cache.erasing import Eraser
from embedder_cache.errors import CacheRequestError
from embedder_cache.generations import Generations
from embedder_cache.guiding import GuideKeeper
from embedder_cache.settings import CacheSettings
from embedder_cache.stats import Counters
from embedder_cache.tombstones import Tombstones
from embedder_cache.writer import PutRequest

_log = logging.getLogger(__name__)


class Duties:
    """Everything that changes the store, driven by the writer thread."""

    def __init__(
        self, generations: Generations, catalogue: Catalogue, settings: CacheSettings, counters: Counters
    ) -> None:
        self._generations = generations
        self._catalogue = catalogue
        self._settings = settings
        self._keeper = GuideKeeper(generations, catalogue)
        self._collector = Collector(generations, catalogue, self._keeper, settings, counters)
        tombstones = Tombstones()
        self.eraser = Eraser(generations, catalogue, self._keeper, tombstones, counters)
        self.committer = Committer(
            generations,
            catalogue,
            self._collector,
            self._keeper,
            tombstones,
            time_to_live_s=settings.time_to_live_s,
            counters=counters,
        )
        self._next_reader_check = time.monotonic() + settings.reader_check_interval_s

    def commit(self, requests: list[PutRequest]) -> None:
        """Commit a group of puts; raises OSError, lmdb.Error or CacheError when that failed."""
        self.committer.commit(requests)

    def maintain(self) -> bool:
        """Do one small piece of whatever is due; returns whether more is to be done at once."""
        self._check_readers()
        self._answer_requests()
        self._collector.rotate_stale()
        collecting = self._collector.step()
        return self._keeper.step() or collecting

    def rotate(self) -> None:
        """Begin a new generation, once a retirement that is under way is finished."""
        self._collector.rotate()

    def finish_collecting(self) -> None:
        """Finish a retirement that is under way, or due."""
        self._collector.finish()

    def _check_readers(self) -> None:
        """Free the slots of dead readers when it is time: they would use up all slots, and keep old pages alive."""
        if time.monotonic() >= self._next_reader_check:
            self._next_reader_check = time.monotonic() + self._settings.reader_check_interval_s
            self._catalogue.reader_check()
            for generation in self._generations.live:
                generation.index.reader_check()

    def _answer_requests(self) -> None:
        for number, request in self._catalogue.requests().items():
            try:
                self.carry_out(request)
            except ValueError as error:
                _log.error("a request could not be read: %s", error)
            self._catalogue.finish_request(number)

    def carry_out(self, request: Request) -> None:
        """Carry one request out; raises ValueError when it can't be read."""
        match request.kind:
            case "erase-hashes":
                self.eraser.erase_hashes(bytes.fromhex(request.prefix), bytes.fromhex(request.hashes))
            case "erase-space":
                self.eraser.erase_space(bytes.fromhex(request.prefix))
            case "erase-domain":
                self.eraser.erase_domain(request.domain)
            case "compact":
                self.eraser.compact()
            case _:
                raise CacheRequestError(f"request {request.kind!r} is not known")
