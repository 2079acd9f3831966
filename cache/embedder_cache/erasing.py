"""Erasing: taking contents, spaces and tenants out of all generations, bytes and all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from embedder_cache.catalogue import Catalogue
from embedder_cache.generation import Generation
from embedder_cache.generations import Generations
from embedder_cache.guiding import GuideKeeper
from embedder_cache.key import PREFIX_BYTES, key_list, pack_keys
from embedder_cache.record import RecordLayout, record_dims
from embedder_cache.stats import Counters
from embedder_cache.tombstones import Tombstones
from embedder_cache.walking import whole_records


class Eraser:
    """Erases and compacts; runs in the writer thread only."""

    def __init__(
        self,
        generations: Generations,
        catalogue: Catalogue,
        keeper: GuideKeeper,
        tombstones: Tombstones,
        counters: Counters,
    ) -> None:
        self._generations = generations
        self._catalogue = catalogue
        self._keeper = keeper
        self._tombstones = tombstones
        self._counters = counters

    def erase_hashes(self, prefix: bytes, hashes: bytes, *, dim: int | None = None) -> int:
        """Erase contents of one space; returns how many were held.

        Args:
            prefix: the space's, 16 bytes.
            hashes: n packed content hashes.
            dim: the space's; what the catalogue or the records say where it is not given.
        """
        keys = pack_keys(prefix, hashes)
        self._tombstones.add(key_list(keys))
        self._generations.clear_quarantine()
        return self._count(sum(self._erase_keys(generation, keys, dim) for generation in self._generations.live))

    def erase_space(self, prefix: bytes) -> int:
        """Erase a space of one tenant and forget it; returns how many entries it had."""
        self._tombstones.add([prefix])
        self._generations.clear_quarantine()
        erased = 0
        for generation in self._generations.live:
            for keys, _ in generation.index.scan(prefix):
                erased += self._erase_keys(generation, keys, None)
        self._catalogue.remove_space(prefix)
        return self._count(erased)

    def erase_domain(self, domain: str) -> int:
        """Erase every space of a tenant (hex of its `domain_id`); returns how many entries it had."""
        prefixes = [prefix for prefix, row in self._catalogue.spaces().items() if row.domain == domain]
        return sum(self.erase_space(prefix) for prefix in prefixes)

    def _erase_keys(self, generation: Generation, keys: npt.NDArray[np.uint8], dim: int | None) -> int:
        if not len(keys):
            return 0
        row = self._catalogue.space(keys[0, :PREFIX_BYTES].tobytes())
        layout = RecordLayout(row.dim if row else dim or self._find_dim(generation, keys))
        return generation.erase(keys, layout, guessed=self._keeper.guess(generation, keys))

    def _find_dim(self, generation: Generation, keys: npt.NDArray[np.uint8]) -> int:
        """Find the dim of a space that the catalogue does not know in its records."""
        headers = generation.slab.gather(generation.index.find(keys), record_blocks=1)
        return max(1, int(record_dims(headers).max()))

    def _count(self, erased: int) -> int:
        self._counters.add(deleted=erased)
        return erased

    def compact(self) -> None:
        """Write every generation anew, in the order of its keys, without what was erased or is damaged.

        Needs room for one generation more. Afterwards no file holds a byte of what was erased, its key included.
        """
        self._generations.clear_quarantine()
        for old in reversed(self._generations.live):
            new = self._generations.create(order=old.row.order, created=old.row.created)
            try:
                for keys, blocks in old.index.scan():
                    self._carry_over(old, new, keys, blocks)
            except BaseException:
                new.unlink()
                raise
            self._generations.replace(old, new)
            for keys, blocks in new.index.scan():
                self._keeper.note(new, keys, blocks)

    def _carry_over(
        self, old: Generation, new: Generation, keys: npt.NDArray[np.uint8], blocks: npt.NDArray[np.int64]
    ) -> None:
        era = self._generations.era
        for chosen, _, records in whole_records(old, keys, blocks):
            placed = new.append([(keys[chosen], records)])[0]
            if old.touches is None or new.touches is None:
                continue
            ages = old.touches.ages(blocks[chosen], era=era)
            for age in np.unique(ages[ages >= 0]).tolist():
                new.touches.mark(placed[ages == age], era=era - age)
