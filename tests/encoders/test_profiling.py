"""A profile is a trace that Perfetto opens, with our own spans around what the device ran."""

from __future__ import annotations

import json
import subprocess
import sys

from embedder.encoders.profiling import SPANS, profile_encoder


def test_the_trace_holds_our_spans_and_the_operators_of_every_thread(load, clip_folder, tmp_path) -> None:
    encoder = load(clip_folder(), precision="fp32")
    file = tmp_path / "traces" / "trace.json"
    times = profile_encoder(encoder, file, batches=2, texts=5, images=3)
    events = json.loads(file.read_text())["traceEvents"]
    spans = [event for event in events if event.get("name") in SPANS]
    assert [event["name"] for event in sorted(spans, key=lambda event: event["ts"])] == [*SPANS, *SPANS]
    assert all(event["ph"] == "X" and event["dur"] > 0 for event in spans)
    encoding = [event for event in spans if event["name"] == SPANS[1]]
    products = [event for event in events if event.get("name") in ("aten::linear", "aten::addmm", "aten::mm")]
    inside = [
        product
        for product in products
        for span in encoding
        if span["ts"] <= product["ts"] and product["ts"] + product["dur"] <= span["ts"] + span["dur"]
    ]
    assert inside
    assert times[0].self_s >= times[-1].self_s >= 0
    assert abs(sum(time.share for time in times) - 1) < 1e-6


def test_the_command_prints_a_table_and_writes_the_trace(text_folder, tmp_path) -> None:
    file = tmp_path / "trace.json"
    command = [
        sys.executable,
        "-m",
        "embedder.cli.serve",
        "profile",
        "--trace",
        str(file),
        "--batches",
        "1",
        "--texts",
        "4",
    ]
    command += [
        "--model",
        str(text_folder()),
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--data-dir",
        str(tmp_path / "kept"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "self ms" in ended.stdout
    assert json.loads(file.read_text())["traceEvents"]


def test_a_count_below_one_is_refused(tmp_path) -> None:
    command = [sys.executable, "-m", "embedder.cli.serve", "profile", "--batches", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 2
    assert "0 is below 1" in ended.stderr
