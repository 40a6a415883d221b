"""
Keeps answers for as long as they are valid.

A hit costs one look into a dictionary: its key is the bytes of the query after the id, and
the answer has already been written for this second.  A second dictionary, by the key that
L{nanotun.gateway.dns.message.readQuery} makes, finds the same question in another spelling.

Rules: an answer is given to its own question only, with the client's id and spelling (some
clients vary the case of names to detect forgeries).  Each TTL is reduced by the answer's age.
An answer is not used once its smallest TTL has run out, nor after the clock was set back.

The exception is L{AnswerCache.stale}: where no server responds, an answer with data is given
for a while yet (RFC 8767).  For L{RETRY} seconds it is then given at once.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable

from nanotun.gateway.dns.answered import Grant
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.message import HEADER_SIZE, NOERROR, NXDOMAIN, RCODE, TC, Query
from nanotun.gateway.dns.records import Lifetime, forCache, readLifetime
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.trace import Trace

#: Bytes that an entry takes besides its messages, about.
OVERHEAD = 800

#: Bytes for each TTL of an answer, about.
TTL_COST = 120

#: The TTL of an answer whose time is over, and the seconds until the servers are asked about it
#: again (RFC 8767, section 5).
STALE_TTL = 30
RETRY = 30.0

_TTL = struct.Struct("!I")


class _Entry:
    """
    One answer.

    @ivar raw: the query that L{AnswerCache.hit} finds it by, without the id.
    @ivar answer: the answer as it arrived.
    @ivar body: the answer with its TTLs at L{age}, without the id.
    @ivar age: seconds since L{stored}, whole.
    @ivar cost: bytes that the entry takes, about.
    @ivar grant: is told when the answer is given; L{None} if nobody is.
    @ivar lifetime: seconds; see L{Lifetime}.
    @ivar positive: likewise.
    @ivar retry: the time in seconds until which it is given although its own time is over.
    @ivar rule: the rule because of which it is this answer, for whoever asks; or empty.
    @ivar stored: the time in seconds when the answer arrived.
    @ivar tally: that of the server that has given it, or L{None}.
    """

    __slots__ = (
        "age",
        "answer",
        "body",
        "cost",
        "grant",
        "key",
        "lifetime",
        "positive",
        "raw",
        "retry",
        "rule",
        "stored",
        "tally",
        "ttls",
    )

    def __init__(
        self,
        wire: bytes,
        query: Query,
        answer: bytes,
        life: Lifetime,
        now: float,
        grant: Grant | None,
        tally: ServerTally | None,
        rule: str,
    ) -> None:
        self.key = query.key
        self.rule = rule
        self.grant = grant
        self.tally = tally
        self.raw = wire[2:]
        self.answer = forCache(answer, query)
        self.lifetime, self.ttls, self.positive = life
        self.stored = now
        self.retry = now
        self.age = 0
        self.body = self.answer[2:]
        self.cost = 2 * len(answer) + 2 * len(wire) + TTL_COST * len(self.ttls) + OVERHEAD
        self.render(0)

    def render(self, age: int) -> None:
        """
        Write L{body} for an age.

        @param age: whole seconds; from the lifetime on, the answer is stale.
        """
        body = bytearray(self.answer)
        for offset, ttl in self.ttls:
            _TTL.pack_into(body, offset, ttl - age if age < self.lifetime else STALE_TTL)
        self.age = age
        self.body = bytes(body[2:])

    def spell(self, wire: bytes, question: bytes) -> None:
        """
        Answer another query from now on, with the same question in another spelling.

        @param question: the query's question section.
        """
        self.raw = wire[2:]
        rest = self.answer[HEADER_SIZE + len(question) :]
        self.answer = self.answer[:HEADER_SIZE] + question + rest
        self.render(self.age)


class AnswerCache:
    """
    Answers by question.  When there are too many, the least recently used one is dropped.

    @param entries: how many answers to keep; 0 for none.
    @param size: bytes that all of them may take.
    @param stale: seconds after its time for which an answer may be given; 0 for none.
    @param counters: count the answers that are given after their time.
    @ivar size: bytes that they take now, about.
    """

    def __init__(
        self, entries: int, size: int, stale: float = 0.0, counters: Counters | None = None
    ) -> None:
        self._stale = stale
        self._counters = Counters() if counters is None else counters
        self._entriesLimit = entries
        self._sizeLimit = size
        self._byKey: OrderedDict[bytes, _Entry] = OrderedDict()
        self._byRaw: dict[bytes, _Entry] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._byKey)

    def hit(self, wire: bytes, now: float) -> bytes | None:
        """
        The answer, if the same bytes were asked before, but for the id.

        @param wire: the query.
        @param now: seconds, of any clock.
        @return: the answer with the query's id, or L{None}.
        """
        entry = self._byRaw.get(wire[2:])
        if entry is None:
            return None
        return self._give(entry, wire, now)

    def find(self, wire: bytes, query: Query, now: float) -> bytes | None:
        """
        The answer, if the same question was asked before, in any spelling.

        @param query: what C{wire} says; its key is not empty.
        @return: as from L{hit}.
        """
        entry = self._spelled(wire, query)
        return None if entry is None else self._give(entry, wire, now)

    def stale(
        self, wire: bytes, query: Query, now: float, note: Callable[[bytes], Grant | None]
    ) -> bytes | None:
        """
        The answer although its time is over, because no server responds.  From now on L{hit} and
        L{find} give it as well, for L{RETRY} seconds.

        @param query: what C{wire} says; its key may be empty.
        @param note: is called with the answer, and returns what is told each time it is given.
        @return: as from L{hit}.
        """
        entry = self._spelled(wire, query)
        if entry is None or not self._mayBeStale(entry, now - entry.stored):
            return None
        entry.render(int(now - entry.stored))
        entry.retry = now + RETRY
        answer = wire[:2] + entry.body
        entry.grant = note(answer)
        self._byKey.move_to_end(entry.key)
        return answer

    def _spelled(self, wire: bytes, query: Query) -> _Entry | None:
        """What is kept for a question, in the spelling of this query."""
        entry = self._byKey.get(query.key)
        if entry is None:
            return None
        # Each answer is kept in one spelling, so a client that varies it fills no memory.
        del self._byRaw[entry.raw]
        entry.spell(wire, query.question)
        self._byRaw[entry.raw] = entry
        return entry

    def _give(self, entry: _Entry, wire: bytes, now: float) -> bytes | None:
        age = now - entry.stored
        if not 0 <= age < entry.lifetime:
            if not self._mayBeStale(entry, age):
                self._remove(entry)
                return None
            if now >= entry.retry:
                return None
            self._counters.stale += 1
        elif age >= entry.age + 1 or age < entry.age:
            entry.render(int(age))
        self._byKey.move_to_end(entry.key)
        if entry.grant is not None:
            entry.grant.asked = now
        if entry.tally is not None:
            entry.tally.hits += 1
        return wire[:2] + entry.body

    def _mayBeStale(self, entry: _Entry, age: float) -> bool:
        return entry.positive and 0 <= age - entry.lifetime < self._stale

    def fill(self, trace: Trace, wire: bytes, now: float) -> None:
        """
        Say which answer was given just now.

        @param wire: the query, for which L{hit}, L{find} or L{stale} has given it.
        """
        entry = self._byRaw[wire[2:]]
        trace.cached = True
        trace.age = now - entry.stored
        trace.stage = "cache" if trace.age < entry.lifetime else "stale"
        if entry.rule:
            trace.rule = entry.rule
        if entry.tally is not None:
            trace.server, trace.via = str(entry.tally.server), entry.tally.server.via

    def store(
        self,
        wire: bytes,
        query: Query,
        answer: bytes,
        now: float,
        grant: Grant | None = None,
        tally: ServerTally | None = None,
        rule: str = "",
    ) -> None:
        """
        Keep an answer, if L{readLifetime} allows it.

        @param wire: the query.
        @param answer: matches the query.
        @param grant: is told each time the answer is given.
        @param tally: likewise.
        @param rule: the rule because of which it is this answer; see L{fill}.
        """
        if not query.key or not self._entriesLimit:
            return
        life = readLifetime(answer, query)
        if life is None and not _refreshes(answer):
            return
        old = self._byKey.get(query.key)
        if old is not None:
            self._remove(old)
        if life is None:
            return
        entry = _Entry(wire, query, answer, life, now, grant, tally, rule)
        if entry.cost > self._sizeLimit:
            return
        self._byKey[entry.key] = self._byRaw[entry.raw] = entry
        self.size += entry.cost
        while self.size > self._sizeLimit or len(self._byKey) > self._entriesLimit:
            self._remove(next(iter(self._byKey.values())))

    def clear(self) -> None:
        """Forget everything."""
        self._byKey.clear()
        self._byRaw.clear()
        self.size = 0

    def _remove(self, entry: _Entry) -> None:
        del self._byKey[entry.key]
        del self._byRaw[entry.raw]
        self.size -= entry.cost


def _refreshes(answer: bytes) -> bool:
    """
    Whether an answer takes the place of an earlier one, also if it may not be kept itself (RFC
    8767, section 4).
    """
    return not answer[2] & TC >> 8 and answer[3] & RCODE in (NOERROR, NXDOMAIN)
