"""What test_ray_executor.py runs in a process of its own: the Ray executor against a real local Ray of three nodes.

The records are those of the local executor to the last bit, also where a node is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.backfill.executors import ExecutorContext, open_executor
from embedder.backfill.job import Job
from embedder.backfill.job_runner import JobRunner, RunOptions
from embedder.backfill.journal import Journal
from embedder.backfill.local_keeper import LocalKeeper
from embedder.backfill.local_space import LocalSpace
from embedder.backfill.manifest import Manifest
from embedder.backfill.planning import AskedColumns, plan
from embedder.backfill.ray_pool import connect, disconnect
from embedder.backfill.records import ShardRecords
from embedder.config import load_settings
from embedder.errors import ConfigurationError

# Ray's own.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

# Each stands in several shards, some twice in one; one row has no text.
TEXTS = [f"a text of some length, number {number % 150} {'and more ' * (number % 7)}" for number in range(240)]
SHARD_ROWS = 20


@dataclass
class Place:
    """A data folder of its own, and the manifest of one job."""

    folder: Path
    threads: int = 1

    def __post_init__(self) -> None:
        self.settings = load_settings(
            data_dir=self.folder / "data",
            cache_limit_bytes="64 MiB",
            decode_workers=0,
            precision="fp32",
            threads=self.threads,
            device="cpu",
        )
        self.folder.mkdir()
        source = self.folder / "rows.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*TEXTS, ""]))
        job = Job(
            sources=(str(source),),
            columns=None,
            model="default",
            precision="fp32",
            space="default@1",
            shard_rows=SHARD_ROWS,
        )
        self.manifest: Manifest = plan(self.folder / "job", job, AskedColumns())

    def records(self, executor: str, address: str = "", *, after_first: Any = None) -> list[ShardRecords]:
        """Run every shard, and keep each one's records as the coordinator does."""
        found: list[ShardRecords] = []
        with ExitStack() as stack:
            space = LocalSpace(self.settings, None, task="test")
            stack.callback(space.close)
            keeper = LocalKeeper(space)
            running = open_executor(executor, ExecutorContext(self.manifest, self.settings, space, address), stack)
            shards = (self.manifest.shard(number) for number in range(self.manifest.shards))
            for records in running.run(shards):
                for commit in [*(records.stored or []), *keeper.keep(records)]:
                    commit.result()
                found.append(records)
                if after_first is not None and len(found) == 1:
                    after_first()
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors, and two nodes with one each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 << 20}
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    for _ in range(2):
        running.add_node(num_cpus=1, **small)
    connect(running.address)
    yield running
    disconnect()
    running.shutdown()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> list[ShardRecords]:
    return Place(tmp_path_factory.mktemp("local") / "place").records("local")


def assert_same(ours: list[ShardRecords], theirs: list[ShardRecords]) -> None:
    ours, theirs = ([*sorted(some, key=lambda one: one.shard.number)] for some in (ours, theirs))
    assert [one.shard for one in ours] == [one.shard for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.ids, one.hashes, one.part_hashes) == (other.ids, other.hashes, other.part_hashes)
        assert one.vectors.tobytes() == other.vectors.tobytes(), "bit for bit"
        assert np.array_equal(one.row_parts, other.row_parts)
        assert (one.part_failures, one.row_failures) == (other.part_failures, other.row_failures)
        assert one.vectors.any(axis=1).sum() == len(one.vectors) - len(one.part_failures)


def test_records_are_those_of_the_local_executor_bit_for_bit(
    cluster: Any, local: list[ShardRecords], tmp_path: Path
) -> None:
    place = Place(tmp_path / "place")
    records = place.records("ray", cluster.address)
    assert_same(records, local)
    assert sum(one.usage.encodes for one in records) == len(set(TEXTS))

    again = place.records("ray", cluster.address)
    assert_same(again, local)
    assert not any(one.usage.encodes for one in again), "what the cache holds is not computed again"


def test_shards_of_a_lost_node_are_computed_by_another(cluster: Any, local: list[ShardRecords], tmp_path: Path) -> None:
    def lose_a_node() -> None:
        import ray

        # Ray ends the process that asks where the node it is connected through is lost.
        ours = ray.get_runtime_context().get_node_id()
        cluster.remove_node(next(node for node in cluster.worker_nodes if node.node_id != ours))

    try:
        records = Place(tmp_path / "place").records("ray", cluster.address, after_first=lose_a_node)
    finally:
        cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    assert_same(records, local)


def test_a_job_runs_to_its_end_on_ray(cluster: Any, tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    options = RunOptions(executor="ray", ray_address=cluster.address)
    end = JobRunner(place.manifest, place.settings, options).run()
    done = Journal(place.manifest.folder).totals()[1]
    assert end.is_complete
    assert (done.rows, done.computed, done.rejected) == (len(TEXTS) + 1, len(set(TEXTS)), 1)


def test_a_worker_of_another_space_is_refused(cluster: Any, tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    with ExitStack() as stack:
        space = LocalSpace(place.settings, None, task="test")
        stack.callback(space.close)
        other = place.settings.model_copy(update={"precision": "bf16"})
        running = open_executor("ray", ExecutorContext(place.manifest, other, space, cluster.address), stack)
        with pytest.raises(ConfigurationError, match="could not begin"):
            list(running.run(place.manifest.shard(number) for number in range(1)))
