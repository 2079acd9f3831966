"""The cache beside a dict, in states that nobody thought of."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from embedder_cache import CacheSettings
from tests.faults.store_model import StoreModel

SPACES = st.integers(0, 1)
NUMBERS = st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True)


class CacheMachine(RuleBasedStateMachine):
    """Puts, gets, deletions, erasures, rotations, compactions, crashes and reopenings in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="cache-states-"))
        self.model = StoreModel(
            self.folder, CacheSettings(max_bytes=8 << 20, generations=2, max_readers=16, sample_rate=0)
        )

    @rule(space=SPACES, numbers=NUMBERS, version=st.integers(0, 2))
    def put(self, space: int, numbers: list[int], version: int) -> None:
        self.model.put(space, numbers, version)

    @rule(space=SPACES, numbers=NUMBERS)
    def get(self, space: int, numbers: list[int]) -> None:
        self.model.get(space, numbers)

    @rule(space=SPACES, numbers=NUMBERS)
    def delete(self, space: int, numbers: list[int]) -> None:
        self.model.delete(space, numbers)

    @rule(space=SPACES)
    def erase_space(self, space: int) -> None:
        self.model.erase_space(space)

    @rule()
    def rotate(self) -> None:
        self.model.rotate()

    @rule()
    def compact(self) -> None:
        self.model.compact()

    @rule()
    def crash(self) -> None:
        self.model.crash()

    @rule()
    def reopen(self) -> None:
        self.model.reopen()

    @invariant()
    def agrees(self) -> None:
        self.model.check_all()

    def teardown(self) -> None:
        self.model.check_size()
        self.model.close()
        shutil.rmtree(self.folder)


CacheMachine.TestCase.settings = settings(
    max_examples=8, stateful_step_count=20, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
TestCacheStates = CacheMachine.TestCase
