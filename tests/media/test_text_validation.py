"""Texts: what is refused, with which words and figures."""

from __future__ import annotations

import pytest

from embedder.errors import InvalidContent, LimitExceeded
from embedder.media.limits import MediaLimits
from embedder.media.text import validate_text

LIMITS = MediaLimits(max_text_bytes=12)


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u2003\u00a0"])
def test_text_without_a_visible_character_is_refused(text: str) -> None:
    with pytest.raises(InvalidContent, match="empty or only white space"):
        validate_text(text, LIMITS)


@pytest.mark.parametrize("text", ["a", "twelve bytes", "äöüäöü", " x "])
def test_text_within_the_limit_is_accepted(text: str) -> None:
    validate_text(text, LIMITS)


@pytest.mark.parametrize(("text", "given"), [("thirteen byte", 13), ("äöüäöüä", 14), ("猫" * 5, 15)])
def test_limit_counts_utf8_bytes_and_is_named_in_the_error(text: str, given: int) -> None:
    with pytest.raises(LimitExceeded, match="max_text_bytes=12") as caught:
        validate_text(text, LIMITS)
    assert (caught.value.field, caught.value.limit, caught.value.given) == ("max_text_bytes", 12, given)


def test_lone_surrogate_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidContent, match="lone surrogate at character 2"):
        validate_text("ab\ud800", LIMITS)


def test_default_limit_refuses_a_text_of_a_hundred_thousand_tokens() -> None:
    with pytest.raises(LimitExceeded, match="max_text_bytes=262144"):
        validate_text("word " * 100_000, MediaLimits())
