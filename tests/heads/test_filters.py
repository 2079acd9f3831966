"""Filters: what a caller asks is one thing, and of the field's type."""

from __future__ import annotations

import re
from typing import Any

import pytest

from embedder_heads.errors import QueryInvalid
from embedder_heads.index.filters import Filter, Range, check_filter, make_filter


def test_each_form_becomes_its_filter() -> None:
    assert make_filter("genre", texts=["Comedy", "War"]) == ("Comedy", "War")
    assert make_filter("year", numbers=[1990]) == (1990,)
    assert make_filter("year", low=1990) == Range(low=1990)
    assert make_filter("year", low=0, high=0) == Range(0, 0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "none of them"),
        ({"texts": ["a"], "low": 1.0}, "texts and range"),
        ({"low": 2.0, "high": 1.0}, "low is at most high"),
        ({"numbers": [float("nan")]}, "NaN"),
        ({"high": float("nan")}, "NaN"),
        ({"texts": ["a"] * 10_001}, "the limit is 10000"),
    ],
)
def test_what_is_no_filter_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(QueryInvalid, match=words):
        make_filter("year", **given)


@pytest.mark.parametrize(
    ("wanted", "is_number", "words"),
    [
        ("1993", True, "holds numbers; filter it by numbers or a range, not by '1993'"),
        (["a", 1], True, "holds numbers"),
        (1993, False, "holds texts; filter it by texts, not by 1993"),
        (Range(0, 1), False, "not by a range"),
    ],
)
def test_filter_of_another_type_than_its_field_is_told(wanted: Filter, is_number: bool, words: str) -> None:
    with pytest.raises(QueryInvalid, match=re.escape(words)):
        check_filter("year", wanted, is_number=is_number)
    check_filter("year", wanted if isinstance(wanted, int | Range) else "x", is_number=not is_number)
