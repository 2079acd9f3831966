"""Writes embedder.json, the Grafana dashboard, from the few lines below: `python deploy/grafana/make.py`; a test holds the two equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_WIDTH = 12
_HEIGHT = 8
_OURS = 'instance=~"$instance"'
_RATE = "[$__rate_interval]"

# Title of a row, and its panels: title, unit, [(query, legend)], what it tells.
ROWS: list[tuple[str, list[tuple[str, str, list[tuple[str, str]], str]]]] = [
    (
        "What sharing saves",
        [
            (
                "Device time spent, and what it would have been",
                "s",
                [
                    (
                        "sum(rate(embedder_ledger_unshared_seconds_total{OURS}RATE))",
                        "every task for itself (estimated)",
                    ),
                    (
                        "sum(rate(embedder_ledger_device_seconds_total{OURS}RATE)) + sum(rate(embedder_ledger_head_seconds_total{OURS}RATE))",
                        "shared, heads included (measured)",
                    ),
                ],
                "Device seconds for each second. The gap is what sharing saves.",
            ),
            (
                "Contents by where their vectors came from",
                "short",
                [("sum by (source) (rate(embedder_items_total{OURS}RATE))", "{{source}}")],
                "Contents a second; only 'computed' cost device time.",
            ),
            (
                "Hit rate",
                "percentunit",
                [
                    (
                        'sum(rate(embedder_items_total{OURS,source=~"cache|shared_cache|in_flight"}RATE)) / sum(rate(embedder_items_total{OURS}RATE))',
                        "without a computation of their own",
                    )
                ],
                "Share of the contents that nothing was computed for.",
            ),
            (
                "Asked for each encode",
                "short",
                [
                    (
                        "sum(increase(embedder_ledger_contents_asked_total{OURS}[1h])) / sum(increase(embedder_ledger_encodes_total{OURS}[1h]))",
                        "over the last hour",
                    )
                ],
                "How many answers one computation gave.",
            ),
        ],
    ),
    (
        "Calls",
        [
            (
                "Calls a second",
                "reqps",
                [("sum by (method) (rate(embedder_requests_total{OURS}RATE))", "{{method}}")],
                "All calls, refused ones included.",
            ),
            (
                "Calls that failed, by reason",
                "reqps",
                [('sum by (outcome) (rate(embedder_requests_total{OURS,outcome!="OK"}RATE))', "{{outcome}}")],
                "OVERLOADED: more work than the device does.",
            ),
            (
                "Time of a call",
                "s",
                [
                    (
                        f'histogram_quantile({quantile}, sum by (le) (rate(embedder_request_seconds_bucket{{OURS,method=~"embedder.v1.*",method!~".*Stream"}}RATE)))',
                        legend,
                    )
                    for quantile, legend in ((0.5, "half within"), (0.99, "99% within"))
                ],
                "In the service, without the network.",
            ),
            (
                "Contents that failed alone",
                "short",
                [("sum by (reason) (rate(embedder_item_failures_total{OURS}RATE))", "{{reason}}")],
                "Their neighbours were served.",
            ),
        ],
    ),
    (
        "The device",
        [
            (
                "Device busy",
                "percentunit",
                [("sum by (lane) (rate(embedder_device_seconds_total{OURS}RATE))", "{{lane}}")],
                "Share of the time in forward passes; 100% is one device, full.",
            ),
            (
                "Work that waits",
                "s",
                [
                    ("sum by (lane) (embedder_queue_device_seconds{OURS})", "{{lane}}"),
                    ("max by (lane) (embedder_queue_limit_seconds{OURS})", "{{lane}}: limit"),
                ],
                "Estimated device seconds of what is admitted and not answered.",
            ),
            (
                "Where a computed content's time goes, 99% within",
                "s",
                [
                    (f"histogram_quantile(0.99, sum by (le) (rate(embedder_{part}_seconds_bucket{{OURS}}RATE)))", part)
                    for part in ("lookup", "prepare", "queue", "encode", "store", "heads")
                ],
                "Storing is not waited for unless a call is durable.",
            ),
            (
                "Batch size",
                "short",
                [
                    (
                        "sum by (modality) (rate(embedder_batch_items_sum{OURS}RATE)) / sum by (modality) (rate(embedder_batch_items_count{OURS}RATE))",
                        "{{modality}}: contents",
                    ),
                    (
                        "sum by (modality) (rate(embedder_batch_units_sum{OURS}RATE)) / sum by (modality) (rate(embedder_batch_units_count{OURS}RATE))",
                        "{{modality}}: units",
                    ),
                ],
                "Means. A unit is a token, or an image.",
            ),
            (
                "Padding efficiency",
                "percentunit",
                [
                    (
                        "sum by (modality) (rate(embedder_batch_units_sum{OURS}RATE)) / sum by (modality) (rate(embedder_worked_units_total{OURS}RATE))",
                        "{{modality}}",
                    )
                ],
                "Of what the device worked on, the part that was no padding. Packed texts have none.",
            ),
        ],
    ),
    (
        "The cache and the process",
        [
            (
                "Cache size",
                "bytes",
                [("sum(embedder_cache_bytes{OURS})", "files"), ("sum(embedder_cache_limit_bytes{OURS})", "limit")],
                "The oldest unused vectors go when the limit is near.",
            ),
            (
                "Hits by the entry's age",
                "short",
                [("sum by (le) (rate(embedder_cache_hit_age_seconds_bucket{OURS}RATE))", "younger than {{le}} s")],
                "Estimated from one batch in sixteen. Old hits are what a larger cache buys.",
            ),
            (
                "What befell entries",
                "short",
                [("sum by (event) (rate(embedder_cache_events_total{OURS}RATE))", "{{event}}")],
                "Damaged records are misses, never answers.",
            ),
            (
                "Memory",
                "bytes",
                [("process_resident_memory_bytes{OURS}", "{{instance}}")],
                "Resident; the mapped cache counts as far as it is in memory.",
            ),
        ],
    ),
]


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": top},
            }
        )
        top += 1
        for place, panel in enumerate(row):
            position = {"h": _HEIGHT, "w": _WIDTH, "x": place % 2 * _WIDTH, "y": top + place // 2 * _HEIGHT}
            panels.append(_panel(len(panels) + 1, panel, position))
        top += -(-len(row) // 2) * _HEIGHT
    instance = {
        "name": "instance", "label": "Service", "type": "query", "datasource": _SOURCE, "includeAll": True, "multi": True, "refresh": 2,
        "query": {"query": "label_values(embedder_serving, instance)", "refId": "instances"}, "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "embedder", "title": "Embedder", "tags": ["embedder"], "schemaVersion": 39, "editable": True, "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"}, "timezone": "", "templating": {"list": [source, instance]}, "panels": panels,
    }  # fmt: skip


_SOURCE = {"type": "prometheus", "uid": "${source}"}


def _panel(number: int, panel: tuple[str, str, list[tuple[str, str]], str], position: dict[str, int]) -> dict[str, Any]:
    title, unit, queries, description = panel
    targets = [
        {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": query.replace("OURS", _OURS).replace("RATE", _RATE), "legendFormat": legend}
        for place, (query, legend) in enumerate(queries)
    ]  # fmt: skip
    return {
        "id": number, "type": "timeseries", "title": title, "description": description, "datasource": _SOURCE, "gridPos": position,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": targets,
    }  # fmt: skip


def main() -> None:
    """Write the file beside this one."""
    (Path(__file__).parent / "embedder.json").write_text(json.dumps(dashboard(), indent=2) + "\n")


if __name__ == "__main__":
    main()
