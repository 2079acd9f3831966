"""The demo's requests: what a feed's services ask of the same contents, over and over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from embedder.demo.data import Article, Film
from embedder_client import Client, Hit

_ZIPF_EXPONENT = 1.1
_CANDIDATES = 32
_SEED = 7

PHOTO_QUERIES = (
    "a cat looking at you",
    "coffee in a cup",
    "a rocket before its launch",
    "stars and galaxies",
    "somebody who flies to space",
    "a motorbike",
    "old money",
    "what time is it",
)


@dataclass(frozen=True)
class Round:
    """What one visit to the feed asks.

    Attributes:
        candidates: articles that the ranker considers; popular ones come again and again.
        photo_query: what the visitor searches for among photographs.
        user: whose film history recommends.
    """

    candidates: tuple[Article, ...]
    photo_query: str
    user: str


def make_rounds(articles: Sequence[Article], users: Sequence[str], *, count: int) -> list[Round]:
    """Draw visits: candidates by a Zipf law over the articles, as popularity is."""
    generator = np.random.default_rng(_SEED)
    weights = 1.0 / np.arange(1, len(articles) + 1) ** _ZIPF_EXPONENT
    order = generator.permutation(len(articles))
    rounds = []
    for number in range(count):
        chosen = generator.choice(order, size=_CANDIDATES, replace=False, p=weights / weights.sum())
        rounds.append(
            Round(
                candidates=tuple(articles[index] for index in chosen),
                photo_query=PHOTO_QUERIES[number % len(PHOTO_QUERIES)],
                user=users[number % len(users)],
            )
        )
    return rounds


def play(
    client: Client, rounds: Sequence[Round], histories: dict[str, list[str]], *, on_round: Callable[[], None]
) -> None:
    """Ask what each visit asks: five tasks, most of them over the same articles."""
    for visit in rounds:
        texts = [article.text for article in visit.candidates]
        client.predict(texts, heads=["topic"], top_k=1)
        client.embed(texts, task="ranking")
        client.recommend("articles", history=texts[:4], top_k=5, task="more-like-this")
        client.retrieve("photos", [visit.photo_query], top_k=3, task="photo-search")
        client.recommend("films", history_ids=histories[visit.user], top_k=5, task="film-recommendation")
        on_round()


@dataclass(frozen=True)
class Showcase:
    """Results that a person can judge.

    Attributes:
        topics: headline, the topic that the head gives, its probability, and the true topic.
        alike: headline, and the headlines found near it.
        photos: query, and the photographs found for it, best first.
        films: titles of a history, and the titles recommended for it.
    """

    topics: tuple[tuple[str, str, float, str], ...]
    alike: tuple[str, tuple[str, ...]]
    photos: tuple[tuple[str, tuple[Hit, ...]], ...]
    films: tuple[tuple[str, ...], tuple[str, ...]]


def showcase(
    client: Client,
    held_out: Sequence[Article],
    articles: Sequence[Article],
    films: Sequence[Film],
    history: Sequence[str],
) -> Showcase:
    """Ask a few things whose answers a person can judge."""
    shown = held_out[:: max(1, len(held_out) // 6)][:6]
    prediction = client.predict([article.text for article in shown], heads=["topic"], top_k=1).predictions[0]
    ranked = [prediction.ranked(row)[0] for row in range(len(shown))]
    headlines = {article.id: headline(article) for article in articles}
    near = client.recommend("articles", history=[shown[0].text], top_k=4, task="more-like-this").hits
    titles = {film.id: film.title for film in films}
    recommended = client.recommend("films", history_ids=history, top_k=5, task="film-recommendation").hits
    queries = PHOTO_QUERIES[:5]
    found = client.retrieve("photos", list(queries), top_k=3, task="photo-search").results
    return Showcase(
        topics=tuple(
            (headline(article), label, score, article.topic)
            for article, (label, score) in zip(shown, ranked, strict=True)
        ),
        alike=(headline(shown[0]), tuple(headlines[hit.id] for hit in near)),
        photos=tuple(zip(queries, (tuple(hits) for hits in found), strict=True)),
        films=(tuple(titles[film] for film in history[-5:]), tuple(titles[hit.id] for hit in recommended)),
    )


def headline(article: Article) -> str:
    """Return an article's first line."""
    return article.text.partition("\n")[0].strip()
