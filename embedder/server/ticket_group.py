"""The tickets of one call in several spaces, as one: done when all are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from embedder.engine.composite_engine import AnyTicket
from embedder.engine.contents import EmbedOptions


class TicketGroup:
    """Waits for several tickets of one call; see `Ticket` for what each method promises."""

    def __init__(self, tickets: Sequence[AnyTicket]) -> None:
        self.tickets = tuple(tickets)
        self.options: EmbedOptions = self.tickets[0].options

    @property
    def is_done(self) -> bool:
        """Whether every row of every ticket has its answer."""
        return all(ticket.is_done for ticket in self.tickets)

    def when_done(self, callback: Callable[[], None]) -> None:
        """Run `callback` once everything is answered: now if that is so already, else in the thread that answers the last row."""
        lock = threading.Lock()
        left = len(self.tickets)

        def count_down() -> None:
            nonlocal left
            with lock:
                left -= 1
                is_last = left == 0
            if is_last:
                callback()

        for ticket in self.tickets:
            ticket.when_done(count_down)

    def wait(self) -> None:
        """Block until everything is answered or the deadline has passed."""
        for ticket in self.tickets:
            ticket.wait()

    def abandon(self) -> None:
        """Fail every missing row as expired, since the caller no longer waits."""
        for ticket in self.tickets:
            ticket.abandon()
