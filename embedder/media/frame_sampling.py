"""Which frames of a video are understood: one at each step of time, or one for each scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

SamplingMode = Literal["rate", "scenes"]

SAMPLING_VERSION = 1
"""Raised whenever the same video and parameters give other frames than before."""

THUMBNAIL_SIDE = 32
"""Width and height of the grey thumbnail by which scenes are told apart."""


@dataclass(frozen=True, slots=True)
class FrameSampling:
    """How frames are picked from a video.

    Attributes:
        mode: `rate` takes a frame at each step of time, `scenes` the first frame of each scene.
        frames_per_second: frames to take for each second, with `rate`.
        scene_threshold: mean difference of grey levels, 0 to 1, from which a frame begins a scene, with `scenes`.
    """

    mode: SamplingMode = "rate"
    frames_per_second: float = 1.0
    scene_threshold: float = 0.15

    @property
    def identity(self) -> str:
        """Everything here that decides which frames a video's vector is made of, as one line of text."""
        chosen = f"fps={self.frames_per_second!r}" if self.mode == "rate" else f"threshold={self.scene_threshold!r}"
        return f"version={SAMPLING_VERSION},mode={self.mode},{chosen}"

    def to_options(self) -> dict[str, Any]:
        """Return this as a decode job's options."""
        return {
            "mode": self.mode,
            "frames_per_second": self.frames_per_second,
            "scene_threshold": self.scene_threshold,
        }

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> FrameSampling:
        """Read a decode job's options."""
        return cls(options["mode"], options["frames_per_second"], options["scene_threshold"])


class FramePicker:
    """Says of each frame of one video, in the order of showing, whether it is taken. The first one always is."""

    def __init__(self, sampling: FrameSampling) -> None:
        self._sampling = sampling
        self._steps = 0
        self._previous: npt.NDArray[np.uint8] | None = None

    @property
    def wants_thumbnails(self) -> bool:
        """Whether frames are told apart by what they show, and not by their time alone."""
        return self._sampling.mode == "scenes"

    def takes(self, time_ms: int, thumbnail: npt.NDArray[np.uint8] | None = None) -> bool:
        """Decide on the next frame.

        Args:
            time_ms: when it is shown, from the first frame on. Whole milliseconds, since Matroska keeps no finer time: the
                same stream then gives the same frames from every container.
            thumbnail: (side, side) uint8 of grey, with `scenes`.
        """
        if self._sampling.mode == "scenes":
            return self._begins_scene(thumbnail)
        if time_ms * self._sampling.frames_per_second < self._steps * 1_000:
            return False
        # A gap longer than a step is one frame, not several copies of it.
        self._steps = int(time_ms * self._sampling.frames_per_second // 1_000) + 1
        return True

    def _begins_scene(self, thumbnail: npt.NDArray[np.uint8] | None) -> bool:
        assert thumbnail is not None
        previous, self._previous = self._previous, thumbnail
        if previous is None:
            return True
        difference = np.abs(thumbnail.astype(np.int16) - previous.astype(np.int16)).mean() / 255
        return bool(difference >= self._sampling.scene_threshold)
