"""The savings file: what the user knows that no meter tells, over the tables that come with the package."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from embedder.errors import ConfigurationError
from embedder.savings.figures import Basis, Figure


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sourced(_Table):
    """A figure taken from somewhere, with where and when."""

    value: float = Field(ge=0)
    source: str = Field(min_length=1)
    year: int = Field(ge=1990, le=2100)
    boundary: str = ""

    def figure(self, unit: str) -> Figure:
        """Return it as an assumed figure."""
        return Figure(self.value, Basis.ASSUMED, unit, f"{self.source} ({self.year})", self.boundary)


class Device(_Table):
    """What a second on a device costs; what is not known is None.

    Attributes:
        match: parts of the name by which the driver calls it.
        per: whether the figures are those of the whole device, or of one core.
        idle_watts: at rest.
        busy_watts: at work, rest included.
        embodied_kg: kilograms of CO2 equivalent of its making.
        usd_per_hour: its price, used or not.
    """

    match: tuple[str, ...] = ()
    per: Literal["device", "core"] = "device"
    idle_watts: Sourced | None = None
    busy_watts: Sourced | None = None
    embodied_kg: Sourced | None = None
    usd_per_hour: Sourced | None = None


class GridFeed(_Table):
    """A live grid intensity over HTTP: a JSON answer, and where the number stands in it."""

    url: str = Field(pattern=r"^https?://")
    field: str = Field("carbonIntensity", description="Path of the number in g/kWh, parts joined by dots.")
    token_header: str = "auth-token"
    token_env: str = Field("", description="Environment variable that holds the token; empty sends none.")
    timeout_s: float = Field(5.0, gt=0, le=60)


class Special(_Table):
    """What a task would cost by itself: the alternative to sharing, chosen for each head or task.

    Attributes:
        kind: the same encoder run for the task alone, a named model that `embedder-report calibrate` measured, or a figure.
        seconds_per_content: device seconds; none for the same encoder, whose cost the service measures.
        model: the measured model's name.
        source: where the figure comes from.
    """

    kind: Literal["same-encoder", "model", "figure"] = "same-encoder"
    seconds_per_content: Annotated[float, Field(ge=0)] | None = None
    model: str = ""
    source: str = ""

    @model_validator(mode="after")
    def _check_together(self) -> Special:
        if self.kind != "same-encoder" and (self.seconds_per_content is None or not self.source):
            raise ValueError(
                f"kind='{self.kind}' needs seconds_per_content and source; `embedder-report calibrate` writes both"
            )
        if self.kind == "same-encoder" and self.seconds_per_content is not None:
            raise ValueError("kind='same-encoder' takes no seconds_per_content: the service measures it")
        if self.kind == "model" and not self.model:
            raise ValueError("kind='model' needs the model's name in model")
        return self


class SavingsPlan(_Table):
    """The savings file."""

    device: str = Field("", description="Row of `devices`; empty takes the one whose name matches the device, if any.")
    region: str = Field("", description="Row of `regions`; empty leaves carbon of use out.")
    pue: float = Field(
        1.0, ge=1.0, le=5.0, description="Power usage effectiveness: what the building draws for each watt."
    )
    lifespan_years: float = Field(4.0, gt=0, le=30, description="Over which the making of a device is spread.")
    usd_per_gib_month: Sourced | None = Field(None, description="Price of the disk under the cache.")
    grid_feed: GridFeed | None = None
    devices: dict[str, Device] = Field(default_factory=dict)
    regions: dict[str, Sourced] = Field(default_factory=dict)
    default: Special = Field(Special(), description="What a head or task that is not named costs alone.")
    heads: dict[str, Special] = Field(default_factory=dict, description="By head, or by task where no head was asked.")

    @model_validator(mode="after")
    def _check_names(self) -> SavingsPlan:
        for kind, name, known in (("device", self.device, self.devices), ("region", self.region, self.regions)):
            if name and name not in known:
                raise ValueError(f"{kind}='{name}' is no row of [{kind}s]; there are {', '.join(sorted(known))}")
        return self

    def device_named(self, name: str) -> tuple[str, Device | None]:
        """Return the chosen device, else the one that the driver's `name` matches, else none."""
        if self.device:
            return self.device, self.devices[self.device]
        for row, device in self.devices.items():
            if any(part in name for part in device.match):
                return row, device
        return name, None

    def special(self, *, head: str, task: str) -> Special:
        """Return what a head costs alone; a call without a head, and a head that is not named, goes by its task."""
        return self.heads.get(head) or self.heads.get(task) or self.default


def load_plan(path: Path | None = None) -> SavingsPlan:
    """Read the savings file over the package's tables.

    Raises:
        ConfigurationError: says what is wrong in the file, and what is allowed.
    """
    given: dict[str, Any] = {}
    if path is not None:
        try:
            given = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"the savings file {path} can't be read: {error}") from error
    tables = {name: _packaged(f"{file}.toml")[name] for name, file in (("devices", "devices"), ("regions", "grid"))}
    try:
        merged = {name: {**rows, **_rows(given, name)} for name, rows in tables.items()}
        return SavingsPlan.model_validate({**given, **merged})
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, line['loc'])) or 'file'}: {line['msg']}" for line in error.errors(include_url=False)
        ]
        raise ConfigurationError(f"the savings file {path}: {'; '.join(lines)}") from error


def _rows(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    rows = given.get(name, {})
    if not isinstance(rows, dict):
        raise ConfigurationError(f"the savings file: {name} is a table of rows; given was {rows!r:.80}")
    return rows


def _packaged(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("embedder.savings").joinpath("data", name).read_text())
