"""The demo's input and requests; its whole run is `make demo`."""

from __future__ import annotations

from embedder.demo.data import PHOTOS, load_articles, load_photos
from embedder.demo.pipeline import headline, make_rounds
from embedder.demo.steps import split


def test_articles_are_the_real_ones_with_their_repeats() -> None:
    articles = load_articles()
    assert len(articles) == 2_225
    assert len({article.text for article in articles}) == 2_127
    assert {article.topic for article in articles} == {"business", "entertainment", "politics", "sports", "tech"}
    assert headline(articles[0])


def test_photos_are_files() -> None:
    assert len(load_photos()) == len(PHOTOS)
    assert all(photo.file[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1") for photo in load_photos())


def test_no_held_out_text_is_learned_from() -> None:
    learn, held_out = split(load_articles())
    assert not {article.text for article in learn} & {article.text for article in held_out}
    assert len(learn) + len(held_out) == 2_127


def test_popular_articles_are_considered_again_and_again() -> None:
    rounds = make_rounds(load_articles(), ["u1", "u2"], count=40)
    asked = [article.id for visit in rounds for article in visit.candidates]
    assert len(asked) == 40 * 32
    assert len(set(asked)) < 0.6 * len(asked)
    assert rounds == make_rounds(load_articles(), ["u1", "u2"], count=40)
