"""Uploads: contents over the message limit, hashed as they arrive, spooled to disk beyond a little memory."""

from __future__ import annotations

import mmap
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedder.engine.contents import ContentItem
from embedder.errors import InvalidContent, InvalidRequest, LimitExceeded, Overloaded
from embedder.media.limits import MediaLimits
from embedder_client.content_hash import Modality, content_hasher
from embedder_client.v1 import embedding_service_pb2 as pb

_MEDIA = {
    pb.UPLOAD_MEDIUM_IMAGE: (Modality.IMAGE, "max_image_bytes"),
    pb.UPLOAD_MEDIUM_VIDEO: (Modality.VIDEO, "max_video_bytes"),
}
_RETRY_MS = 1_000


@dataclass(frozen=True, slots=True)
class Upload:
    """What arrived.

    Attributes:
        item: the content; a video's bytes are mapped from a file where they were too many for memory.
        request: what is asked of it.
    """

    item: ContentItem
    request: pb.EmbedRequest


class Uploads:
    """Takes uploads, a bounded number at a time, each within a bounded piece of memory. Thread-safe."""

    def __init__(self, *, limits: MediaLimits, folder: Path, max_uploads: int, memory_bytes: int) -> None:
        """Make a place for uploads.

        Args:
            limits: applied to what a header says before a byte is taken, and to the bytes as they come.
            folder: where what does not fit into memory is spooled; its files have no name and vanish when closed.
            max_uploads: how many may arrive, or be worked on, at once.
            memory_bytes: bytes of one upload that are held in memory.
        """
        self._limits = limits
        self._folder = folder
        self._max_uploads = max_uploads
        self._memory_bytes = memory_bytes
        self._room = threading.BoundedSemaphore(max_uploads)

    @contextmanager
    def receive(self, messages: Iterator[pb.EmbedUploadRequest]) -> Iterator[Upload]:
        """Take one upload; what it holds is valid inside the context.

        A content that is over a limit, or not what its header says, is an item with its error, and the rest of it is not read.

        Raises:
            Overloaded: as many uploads as there may be are under way.
            InvalidRequest: the messages are not a header and then bytes.
        """
        if not self._room.acquire(blocking=False):
            raise Overloaded(
                f"{self._max_uploads} uploads are under way; allowed are {self._max_uploads}", retry_after_ms=_RETRY_MS
            )
        with ExitStack() as stack:
            stack.callback(self._room.release)
            header = _header(messages)
            medium = _MEDIA.get(header.medium)
            if medium is None:
                raise InvalidRequest(f"header.medium={header.medium}; known are image and video")
            try:
                item = self._take(header, *medium, messages, stack)
            except (InvalidContent, LimitExceeded) as error:
                item = ContentItem(b"", error=error)
            yield Upload(item, header.request)

    def _take(
        self,
        header: pb.UploadHeader,
        modality: Modality,
        limit: str,
        messages: Iterator[pb.EmbedUploadRequest],
        stack: ExitStack,
    ) -> ContentItem:
        self._limits.check(limit, header.size_bytes)
        hasher = content_hasher(modality, header.size_bytes)
        # In the data folder: a machine's /tmp is often memory.
        spool = stack.enter_context(
            tempfile.SpooledTemporaryFile(max_size=self._memory_bytes, dir=str(self._folder))  # noqa: SIM115 - entered
        )
        received = 0
        for message in messages:
            if message.WhichOneof("kind") != "data":
                raise InvalidRequest("the upload holds a second header; one header comes first, then bytes")
            received += len(message.data)
            if received > header.size_bytes:
                break
            hasher.update(message.data)
            spool.write(message.data)
        if received != header.size_bytes:
            raise InvalidContent(f"the header says {header.size_bytes} bytes, and {received} or more came")
        digest = hasher.digest()
        if header.content_hash and digest != header.content_hash:
            raise InvalidContent("the bytes that came have another hash than the header says")
        return ContentItem(
            digest, modality, _payload(spool, received, modality, is_on_disk=received > self._memory_bytes)
        )


def _header(messages: Iterator[pb.EmbedUploadRequest]) -> pb.UploadHeader:
    first = next(messages, None)
    if first is None or first.WhichOneof("kind") != "header":
        raise InvalidRequest("the upload does not begin with a header")
    return first.header


def _payload(
    spool: tempfile.SpooledTemporaryFile[bytes], size: int, modality: Modality, *, is_on_disk: bool
) -> bytes | mmap.mmap:
    """Return what was spooled: from memory as it is, from disk mapped; images are read, since their decoders want bytes.

    The map is closed with its last user: a video that others wait for outlives the call that brought it.
    """
    spool.seek(0)
    if not is_on_disk or modality is not Modality.VIDEO:
        return spool.read()
    spool.flush()
    return mmap.mmap(spool.fileno(), size, prot=mmap.PROT_READ)
