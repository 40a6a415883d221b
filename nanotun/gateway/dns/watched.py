"""
Notes the queries of programs and what became of them, while somebody looks.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from zope.interface import implementer

from nanotun.gateway.dns.addresses import nameShown, readName
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.message import HEADER_SIZE, LARGEST, RCODE, WireError, readQuery
from nanotun.gateway.dns.trace import Trace
from nanotun.gateway.dns.types import RCODES, typeText
from nanotun.timer import Timer

#: Queries that are kept.
KEPT = 100

#: Seconds after the last look in which queries are noted.
INTEREST = 60.0

_KIND = struct.Struct("!H")


class Noted(NamedTuple):
    """
    A query that was answered.

    @ivar time: seconds since 1970.
    @ivar seconds: how long the answer took.
    """

    time: float
    wire: bytes
    answer: bytes
    trace: Trace
    seconds: float


@implementer(IAnswering)
class WatchedDns:
    """
    See the module.

    @param behind: answers.
    @param clock: what the time is taken from.
    @param now: seconds since 1970.
    """

    def __init__(self, behind: IAnswering, clock: Any, now: Callable[[], float]) -> None:
        self.counters = behind.counters
        self._behind = behind
        self._clock = clock
        self._now = now
        self._timer = Timer(clock, self._forget)
        self._kept: deque[Noted] = deque(maxlen=KEPT)

    def query(
        self,
        wire: bytes,
        client: Hashable,
        reply: Callable[[bytes], None],
        overTCP: bool = False,
        largest: int = LARGEST,
        trace: Trace | None = None,
    ) -> bool:
        """See L{IAnswering.query}."""
        if not self._timer.active:
            return self._behind.query(wire, client, reply, overTCP, largest, trace)
        traced = Trace() if trace is None else trace
        began = self._clock.seconds()

        def answered(answer: bytes) -> None:
            # What nobody looks for any more would be kept until somebody does.
            if self._timer.active:
                seconds = self._clock.seconds() - began
                self._kept.append(Noted(self._now(), wire, answer, traced, seconds))
            reply(answer)

        return self._behind.query(wire, client, answered, overTCP, largest, traced)

    def look(self) -> list[dict[str, Any]]:
        """
        The last queries, the newest first.  They are noted for some time from now on.

        @return: C{time} (seconds since 1970), C{name}, C{type}, C{status}, C{stage} (see
            L{Trace}), C{server}, C{via} and C{seconds}.
        """
        self._timer.start(INTEREST)
        return [_shown(each) for each in reversed(self._kept)]

    def stop(self) -> None:
        """Note nothing any more."""
        self._timer.cancel()
        self._forget()

    def _forget(self) -> None:
        self._kept.clear()


def _shown(noted: Noted) -> dict[str, Any]:
    trace, rcode = noted.trace, noted.answer[3] & RCODE
    name = kind = ""
    try:
        question = readQuery(noted.wire).question
        if question:
            name = nameShown(readName(noted.wire, HEADER_SIZE)) or "."
            kind = typeText(_KIND.unpack_from(question, len(question) - 4)[0])
    except WireError:
        # The relay has said what it thinks of it.
        name = "?"
    return {
        "time": round(noted.time, 3),
        "name": name,
        "type": kind,
        "status": RCODES.get(rcode, f"RCODE{rcode}"),
        "stage": trace.stage,
        "server": trace.server,
        "via": trace.via,
        "seconds": round(noted.seconds, 6),
    }
