"""Texts: what is accepted as one."""

from __future__ import annotations

from embedder.errors import InvalidContent
from embedder.media.limits import MediaLimits


def validate_text(text: str, limits: MediaLimits) -> None:
    """Accept or refuse one text; nothing is changed, since the exact bytes name the content.

    Args:
        text: any Unicode text.
        limits: `max_text_bytes` applies to its UTF-8 form.
    Raises:
        InvalidContent: the text is empty, only white space, or not valid Unicode.
        LimitExceeded: the text is over the byte limit.
    """
    # A character is at least one byte, so a huge text is refused before it is encoded.
    limits.check("max_text_bytes", len(text))
    if not text.isascii():
        try:
            limits.check("max_text_bytes", len(text.encode()))
        except UnicodeEncodeError as error:
            raise InvalidContent(f"the text holds a lone surrogate at character {error.start}") from error
    if not text or text.isspace():
        raise InvalidContent("the text is empty or only white space")
