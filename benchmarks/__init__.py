"""Benchmarks: each is `python -m benchmarks.NAME`, and prints ours, the peer and the floor, interleaved in one run."""
