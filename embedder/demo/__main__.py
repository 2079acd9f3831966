"""`make demo`: understand real content once, let several tasks live on it, and show what that saved."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from embedder.cli.savings_table import savings_table
from embedder.demo import steps
from embedder.demo.alternative import Alternative, run_alternative
from embedder.demo.daemon import running_daemon
from embedder.demo.data import Article, Film, Photo, load_articles, load_films, load_histories, load_photos
from embedder.demo.pipeline import Round, Showcase, make_rounds, play, showcase
from embedder.errors import ConfigurationError
from embedder_client import Client, ClientSettings, EmbedderClientError, SavingsReport

_FOLDER = Path(".demo")
_VISITS = 60
_SAMPLE = 48


class Demo:
    """One run of the demo: its folder, its input and its console."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._console = console
        self._files = folder / "files"
        self._data_dir = folder / "service"
        shutil.rmtree(self._data_dir, ignore_errors=True)
        self._files.mkdir(parents=True, exist_ok=True)
        self._articles: list[Article] = load_articles()
        self._photos: list[Photo] = load_photos()
        self._films: list[Film] = load_films(folder / "films")
        self._histories = load_histories(folder / "films", users=12, length=20)
        self._learn, self._held_out = steps.split(self._articles)
        self._rounds: list[Round] = make_rounds(self._articles, list(self._histories), count=_VISITS)

    def run(self) -> None:
        """Play everything, and show it."""
        say = self._console.print
        unique = len({article.text for article in self._articles})
        say(
            Panel(
                f"{len(self._articles):,} BBC articles ({unique:,} of them different), {len(self._photos)} photographs and "
                f"{len(self._films):,} films, one encoder, five tasks.",
                title="Understand content once",
            )
        )
        with self._running("first") as (target, client):
            self._understand(client)
            self._train_and_index(target)
            self._play(client, "Ranking pipeline: 5 tasks a visit")
            shown = showcase(client, self._held_out, self._articles, self._films, next(iter(self._histories.values())))
            encodes = client.savings(group_by="").total.encodes
        say("\n[bold]The daemon was stopped and is started again on the same folder.[/]")
        with self._running("again") as (_, client):
            self._play(client, "The same visits again")
            report = client.savings(group_by="task")
        again = report.total.encodes - encodes
        say(f"Encodes in the second run: [bold]{again}[/]" + (" (every vector was held)" if again == 0 else ""))
        alternative = self._measure_alternative(report)
        self._show(shown)
        self._show_savings(report, alternative)

    def _running(self, name: str) -> _Running:
        return _Running(self._data_dir, name, self._console)

    def _understand(self, client: Client) -> None:
        with _progress(self._console) as progress:
            bar = progress.add_task("Understanding articles", total=len(self._articles))
            texts = [article.text for article in self._articles]
            steps.understand(client, texts, task="ingest", on_batch=lambda count: progress.advance(bar, count))

    def _train_and_index(self, target: str) -> None:
        heads_dir, indexes_dir = str(self._data_dir / "heads"), str(self._data_dir / "indexes")
        labelled = steps.write_labelled(self._learn, self._files / "labelled.jsonl")
        say = self._console.print
        say("\n[bold]A topic head, trained from a labelled file[/] (embedder-heads train)")
        steps.run_heads_command(
            *("train", str(labelled), "--name", "topic", "--label", "topic"),
            *("--target", target, "--heads-dir", heads_dir),
        )
        say("\n[bold]Indexes of articles, films and photographs[/] (embedder-heads index build)")
        for name, items, columns in (
            ("articles", steps.write_articles(self._articles, self._files / "articles.jsonl"), ["--metadata", "topic"]),
            ("films", steps.write_films(self._films, self._files / "films.jsonl"), ["--metadata", "title"]),
            (
                "photos",
                steps.write_photos(self._photos, self._files / "photos"),
                ["--image", "image", "--text", "", "--metadata", "shows"],
            ),
        ):
            steps.run_heads_command(
                *("index", "build", str(items), "--name", name, *columns),
                *("--target", target, "--indexes-dir", indexes_dir),
            )
        time.sleep(1.2)  # the daemon looks for what was published twice a second

    def _play(self, client: Client, title: str) -> None:
        start = time.perf_counter()
        with _progress(self._console) as progress:
            bar = progress.add_task(title, total=len(self._rounds))
            play(client, self._rounds, self._histories, on_round=lambda: progress.advance(bar))
        seconds = time.perf_counter() - start
        self._console.print(
            f"{len(self._rounds)} visits in {seconds:.1f} s: {1_000 * seconds / len(self._rounds):.0f} ms each"
        )

    def _measure_alternative(self, report: SavingsReport) -> Alternative:
        tasks = sum(1 for row in report.rows if row.group in _ARTICLE_TASKS)
        with _progress(self._console) as progress:
            bar = progress.add_task(
                f"The alternative, really run: {tasks} tasks encode {_SAMPLE} articles each", total=tasks
            )
            sample = [article.text for article in self._held_out[:_SAMPLE]]
            return run_alternative(sample, tasks=tasks, on_task=lambda: progress.advance(bar))

    def _show(self, shown: Showcase) -> None:
        say = self._console.print
        topics = Table(title="Topic tags on articles that the head has not seen", title_justify="left")
        for column in ("headline", "tag", "probability", "truth"):
            topics.add_column(column)
        for headline, tag, probability, truth in shown.topics:
            topics.add_row(headline, f"[{'green' if tag == truth else 'red'}]{tag}[/]", f"{probability:.2f}", truth)
        say(topics)
        photos = Table(title="Photographs found by words", title_justify="left")
        for column in ("query", "found first", "then", "then"):
            photos.add_column(column)
        for query, hits in shown.photos:
            photos.add_row(query, *[f"{hit.metadata['shows']} ({hit.score:.2f})" for hit in hits])
        say(photos)
        article, near = shown.alike
        say(f"[bold]More like[/] {article!r}:", *[f"  - {headline}" for headline in near], sep="\n")
        history, recommended = shown.films
        say(
            f"\n[bold]Who liked[/] {', '.join(history)} [bold]may like[/]:",
            *[f"  - {film}" for film in recommended],
            sep="\n",
        )

    def _show_savings(self, report: SavingsReport, alternative: Alternative) -> None:
        say = self._console.print
        say()
        say(savings_table(report, by="task", width=self._console.width))
        articles = [row for row in report.rows if row.group in _ARTICLE_TASKS]
        asked = sum(row.contents_asked for row in articles)
        estimated = sum(row.device_time_unshared.value for row in articles if row.device_time_unshared)
        measured = alternative.seconds_per_encode * asked
        say(
            f"\n[bold]Checked:[/] {alternative.tasks} tasks really encoded {alternative.texts} articles each: "
            f"{1_000 * alternative.seconds_per_encode:.1f} ms an encode (measured). Times the {asked:,} asks of those tasks: "
            f"{measured:,.0f} s; the report's estimate for them is {estimated:,.0f} s ({estimated / measured - 1:+.0%})."
        )


_ARTICLE_TASKS = ("ingest", "topic", "ranking", "more-like-this")


class _Running:
    """A daemon and a client of it, for a while."""

    def __init__(self, data_dir: Path, name: str, console: Console) -> None:
        self._daemon = running_daemon(data_dir)
        self._name = name
        self._console = console
        self._client: Client | None = None

    def __enter__(self) -> tuple[str, Client]:
        with self._console.status("Starting embedder-serve: loading and checking the encoder"):
            target = self._daemon.__enter__()
        self._console.print(f"embedder-serve listens on {target}")
        self._client = Client(target, settings=ClientSettings(client_name=f"demo-{self._name}", timeout_s=120))
        return target, self._client

    def __exit__(self, *error: object) -> None:
        if self._client is not None:
            self._client.close()
        self._daemon.__exit__(None, None, None)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def main() -> None:
    """Run the demo in ./.demo."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    console = Console()
    start = time.perf_counter()
    try:
        Demo(_FOLDER, console).run()
    except (ConfigurationError, EmbedderClientError) as error:
        console.print(f"[bold red]The demo failed:[/] {error}", highlight=False, soft_wrap=True)
        console.print(f"What the daemon said is in {_FOLDER / 'service' / 'daemon.log'}.")
        sys.exit(1)
    console.print(
        f"\nThe demo took {time.perf_counter() - start:.0f} s. Its files are in {_FOLDER}/; `make serve` starts the daemon."
    )


if __name__ == "__main__":
    main()
