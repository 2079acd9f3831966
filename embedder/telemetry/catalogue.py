"""Every metric of the service."""

from __future__ import annotations

from embedder.telemetry.metric import Kind, Metric

# From a hit's tens of microseconds to a call that waited its whole deadline.
_CALL_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
_WORK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_POWERS_OF_TWO = tuple(float(1 << exponent) for exponent in range(15))  # 1 to 16,384
_AGES_S = tuple(float(1 << exponent) for exponent in range(0, 33, 2))  # a second to 136 years

_COUNTER, _GAUGE, _HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

# The process
INFO = Metric(
    "embedder_info",
    _GAUGE,
    "Always 1; its labels say what is served.",
    ("version", "space", "model", "numerics", "device"),
)
SERVING = Metric("embedder_serving", _GAUGE, "1 while health answers SERVING, 0 while it starts or drains.")
START_TIME = Metric("embedder_start_time_seconds", _GAUGE, "When it began to serve, Unix time.")

# Calls
REQUESTS = Metric(
    "embedder_requests_total",
    _COUNTER,
    "Calls that ended, by how: OK, or the error's reason; a stream is one call.",
    ("method", "outcome"),
)
REQUEST_SECONDS = Metric(
    "embedder_request_seconds",
    _HISTOGRAM,
    "Time of a call in the service, refused ones included.",
    ("method",),
    _CALL_S,
)
ITEMS = Metric(
    "embedder_items_total",
    _COUNTER,
    "Contents answered, by where their vectors came from; one call counts each once.",
    ("space", "lane", "source"),
)
ITEM_FAILURES = Metric(
    "embedder_item_failures_total",
    _COUNTER,
    "Contents that failed alone, by the error's reason (undecodable ones: INVALID_CONTENT).",
    ("space", "reason"),
)
LOOKUP_SECONDS = Metric(
    "embedder_lookup_seconds", _HISTOGRAM, "Time of a call's look-up in the cache.", ("space",), _CALL_S
)
HEADS_SECONDS = Metric(
    "embedder_heads_seconds",
    _HISTOGRAM,
    "Time of a call's heads or index search, after its vectors were there.",
    ("method",),
    _CALL_S,
)

# The device and the way to it
PREPARE_SECONDS = Metric(
    "embedder_prepare_seconds",
    _HISTOGRAM,
    "Time of tokenizing or decoding, for each content computed.",
    ("space", "modality"),
    _WORK_S,
)
QUEUE_SECONDS = Metric(
    "embedder_queue_seconds",
    _HISTOGRAM,
    "Time from being prepared to the start of its batch, for each content computed.",
    ("space", "lane"),
    _WORK_S,
)
ENCODE_SECONDS = Metric(
    "embedder_encode_seconds", _HISTOGRAM, "Time of a batch on the device.", ("space", "modality"), _WORK_S
)
STORE_SECONDS = Metric(
    "embedder_store_seconds",
    _HISTOGRAM,
    "Time from a batch's hand-over to the cache until it is visible there.",
    ("space",),
    _WORK_S,
)
STORE_FAILURES = Metric(
    "embedder_store_failures_total", _COUNTER, "Vectors that were served and could not be stored.", ("space",)
)
BATCH_ITEMS = Metric("embedder_batch_items", _HISTOGRAM, "Contents in a batch.", ("space", "modality"), _POWERS_OF_TWO)
BATCH_UNITS = Metric(
    "embedder_batch_units",
    _HISTOGRAM,
    "Cost units in a batch: tokens of texts, images.",
    ("space", "modality"),
    _POWERS_OF_TWO,
)
WORKED_UNITS = Metric(
    "embedder_worked_units_total",
    _COUNTER,
    "Cost units that the device worked on, padding included; the batches' own units over these are the padding efficiency.",
    ("space", "modality"),
)
DEVICE_SECONDS = Metric(
    "embedder_device_seconds_total",
    _COUNTER,
    "Device time spent on encodes, by the lane of the call that caused it.",
    ("space", "lane", "modality"),
)
QUEUE_DEVICE_SECONDS = Metric(
    "embedder_queue_device_seconds",
    _GAUGE,
    "Estimated device time of work that is admitted and not answered.",
    ("space", "lane"),
)
QUEUE_LIMIT_SECONDS = Metric(
    "embedder_queue_limit_seconds", _GAUGE, "Device time beyond which calls are refused.", ("lane",)
)
IN_FLIGHT_ITEMS = Metric(
    "embedder_in_flight_items", _GAUGE, "Contents that are being computed or committed.", ("space",)
)
SHADOW_CONTENTS = Metric(
    "embedder_shadow_contents_total",
    _COUNTER,
    "Contents of a sample of traffic that a shadow space was to compute too: computed, held, failed, or dropped for lack of time.",
    ("space", "outcome"),
)

# The cache, as this process sees it
CACHE_ENTRIES = Metric("embedder_cache_entries", _GAUGE, "Vectors held.")
CACHE_BYTES = Metric("embedder_cache_bytes", _GAUGE, "Bytes of the cache's files.")
CACHE_LIMIT_BYTES = Metric("embedder_cache_limit_bytes", _GAUGE, "Bytes that it may take.")
CACHE_QUEUED_BYTES = Metric("embedder_cache_queued_bytes", _GAUGE, "Bytes that wait for their commit.")
CACHE_LOOKUPS = Metric(
    "embedder_cache_lookups_total", _COUNTER, "Hashes looked up, by outcome: hit or miss.", ("outcome",)
)
CACHE_EVENTS = Metric(
    "embedder_cache_events_total",
    _COUNTER,
    "What befell entries: written, already_held, refused (its queue was full), damaged (did not check out; a miss), expired, "
    "deleted, copied_forward, evicted; and rotations and quarantined generations.",
    ("event",),
)
CACHE_HIT_AGE_SECONDS = Metric(
    "embedder_cache_hit_age_seconds",
    _HISTOGRAM,
    "Age of entries when they were hit, estimated from one batch in sixteen.",
    (),
    _AGES_S,
)

# Tasks
HEADS = Metric("embedder_heads", _GAUGE, "Heads served.")
INDEXES = Metric("embedder_indexes", _GAUGE, "Indexes served.")

# The savings ledger; it outlives the process, so these do not start at zero
LEDGER_ASKED = Metric(
    "embedder_ledger_contents_asked_total", _COUNTER, "Times that a task asked for a content: contents x tasks."
)
LEDGER_ANSWERED = Metric(
    "embedder_ledger_answered_total", _COUNTER, "The same, by where the answer came from.", ("source",)
)
LEDGER_ENCODES = Metric("embedder_ledger_encodes_total", _COUNTER, "Contents computed on the device.")
LEDGER_DEVICE_SECONDS = Metric("embedder_ledger_device_seconds_total", _COUNTER, "Device time spent, measured.")
LEDGER_HEAD_SECONDS = Metric("embedder_ledger_head_seconds_total", _COUNTER, "Time of heads, measured.")
LEDGER_UNSHARED_SECONDS = Metric(
    "embedder_ledger_unshared_seconds_total", _COUNTER, "Device time had every task encoded for itself, estimated."
)

CATALOGUE: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
