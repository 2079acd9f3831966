"""The options of embedder-backfill, each declared once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ContentKind(StrEnum):
    """What a row is."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    POST = "post"


Sources = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files and folders: .parquet, .jsonl, .csv, .tsv, WebDataset .tar, images, videos, .txt; '-' reads JSON lines from "
        "standard input, which are kept below the data folder so that the job can go on.",
        show_default=False,
    ),
]
Column = Annotated[
    str,
    typer.Option(
        help="Column of the content: a text, or a file's bytes or path (relative to the file it stands in). Dots lead into nested "
        "objects; in a tar, a column is what follows the first dot of a member's name, such as jpg. Default: 'text'.",
        show_default=False,
    ),
]
Kind = Annotated[
    ContentKind | None,
    typer.Option(
        help="What the column holds; left out, the first value tells: bytes are an image, the path of a file goes by its ending, the "
        "rest is text. Of folders, files of this kind alone are taken."
    ),
]
PostFields = Annotated[
    list[str] | None,
    typer.Option(
        "--post",
        help="A field of a post as NAME=COLUMN or NAME=COLUMN:MEDIUM, such as title=title or picture=image_path:image; once for each "
        "field. A field without a value is left out of its post.",
        show_default=False,
    ),
]
IdColumn = Annotated[
    str, typer.Option("--id", help="Column of the rows' ids; left out, a row is FILE#NUMBER.", show_default=False)
]
JobName = Annotated[
    str,
    typer.Option(
        "--job",
        help="The job's name below DATA_DIR/backfill, or its folder (anything with a slash). `run --job NAME` alone goes on with a job.",
        show_default=False,
    ),
]
Parquet = Annotated[
    Path | None,
    typer.Option(help="Also write Parquet files of id, content_hash and vector into this folder, one for each shard."),
]
Npy = Annotated[
    Path | None,
    typer.Option(help="Also write one NumPy matrix of float16, a row for each row, zeros for rejects; ids beside it."),
]
Index = Annotated[
    str,
    typer.Option(
        help="Also publish a nearest-neighbour index of this name when the job is done, for Retrieve and Recommend. Building it "
        "takes 4 bytes a component in memory.",
        show_default=False,
    ),
]
Target = Annotated[
    str,
    typer.Option(
        help="Address of a running service that computes and keeps the vectors, in its bulk lane; what it knows by hash never "
        "travels. Left out, this process does, and no service may have the cache open.",
        show_default=False,
    ),
]
Token = Annotated[
    str, typer.Option(envvar="EMBEDDER_BEARER_TOKEN", help="Bearer token of the service.", show_default=False)
]
TlsRoot = Annotated[
    Path | None, typer.Option(help="PEM file with the authority of the service's certificate; turns TLS on.")
]
ExecutorName = Annotated[
    str,
    typer.Option(
        help="What computes: 'local' is this process with its decode workers; 'ray' is a worker for each GPU of a Ray cluster, or for "
        "its processors, while this process reads, asks the cache and keeps what comes back (needs embedder[ray]). Name the precision "
        "there: 'auto' may choose another one on another machine, and such a worker is refused."
    ),
]
RayAddress = Annotated[
    str,
    typer.Option(
        help="The Ray cluster, such as HOST:6379 or auto, with --executor ray; left out, one is started on this machine and ended "
        "with the job. Its nodes need this version of embedder and reach of the shared cache, not of the sources.",
        show_default=False,
    ),
]
Again = Annotated[
    bool, typer.Option("--again", help="Ask for every row anew, as after the cache has dropped some; hits stay cheap.")
]
MaxRejects = Annotated[
    int | None,
    typer.Option(min=0, help="Stop with status 3 once more rows than this were rejected; by default nothing stops it."),
]
ShardRows = Annotated[
    int,
    typer.Option(
        min=0,
        help="Most rows of a shard, which is what a killed job does again at most. 0 goes by the medium: 2048 texts, 512 posts, 128 "
        "images, 8 videos; a shard's contents are in memory, some shards at a time.",
    ),
]
Config = Annotated[
    Path | None, typer.Option(envvar="EMBEDDER_CONFIG", help="The service's TOML file of settings.", show_default=False)
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="EMBEDDER_DATA_DIR", help="The service's data folder: cache, ledger, jobs.", show_default=False
    ),
]
Model = Annotated[str | None, typer.Option(help="The encoder; see embedder-serve --model.", show_default=False)]
Precision = Annotated[str | None, typer.Option(help="See embedder-serve --precision.", show_default=False)]
Space = Annotated[str | None, typer.Option(help="Name of the space; see embedder-serve --space.", show_default=False)]
Device = Annotated[str | None, typer.Option(help="See embedder-serve --device.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
