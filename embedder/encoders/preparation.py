"""The half of an encoder that needs no weights: tokenizer and image transform, picklable, for front-ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from embedder.encoders.base import EncoderInfo, Pixels, Tokens
from embedder.encoders.tokenizing import TextTokenizer
from embedder.errors import UnsupportedModality
from embedder.media.decoding.job import Decoder
from embedder.media.limits import MediaLimits
from embedder.media.preprocess import PixelTransform


@dataclass(frozen=True)
class Preparation:
    """Prepares contents as the encoder that it came from does; see `embedder.encoders.base.Preparing` for its contract.

    Attributes:
        info: what the encoder is.
        limits: applied to image files before they are decoded.
        tokenizer: None where the encoder has no text tower.
        transform: None where it has no image tower.
        device_name: what the device calls itself; empty for a processor.
        decoder: where image files are decoded; None: in the thread that prepares them. Of the process, so it is set after unpickling.
    """

    info: EncoderInfo
    limits: MediaLimits
    tokenizer: TextTokenizer | None
    transform: PixelTransform | None
    device_name: str = ""
    decoder: Decoder | None = None

    def with_decoder(self, decoder: Decoder) -> Preparation:
        """Return the same, with image files decoded by `decoder`."""
        return replace(self, decoder=decoder)

    def warm_up(self) -> None:
        """Import what the first image would wait for."""
        if self.transform is not None:
            import_resizer()

    def prepare_texts(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize; returns token ids, each (t,) int32 with special tokens, cut to `max_tokens`."""
        if self.tokenizer is None:
            raise UnsupportedModality(f"the encoder {self.info.model_id} does not understand texts")
        return self.tokenizer.tokenize(texts)

    def prepare_image(self, data: bytes) -> Pixels:
        """Decode and resize one image file to (3, image_size, image_size) uint8; raises InvalidContent."""
        from embedder.encoders.pixel_resize import resize_pixels

        return self._images().prepare(data, self.limits, decoder=self.decoder, resize=resize_pixels)

    def prepare_frame(self, image: Pixels) -> Pixels:
        """Resize an upright RGB picture, (height, width, 3) uint8, to (3, image_size, image_size) uint8."""
        from embedder.encoders.pixel_resize import resize_pixels

        return self._images().apply(image, resize=resize_pixels)

    def _images(self) -> PixelTransform:
        if self.transform is None:
            raise UnsupportedModality(f"the encoder {self.info.model_id} does not understand images")
        return self.transform


def import_resizer() -> None:
    """Import torch, which resizes images, and nothing of any model."""
    import torch

    from embedder.encoders import pixel_resize  # noqa: F401

    torch.set_num_threads(1)  # images are decoded side by side; the cores belong to them and to the engine
