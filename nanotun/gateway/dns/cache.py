"""
Keeps answers for as long as they are valid.

A hit costs one look into a dictionary: its key is the bytes of the query after the id, and
the answer has already been written for this second.  A second dictionary, by the key that
L{nanotun.gateway.dns.message.readQuery} makes, finds the same question in another spelling.

Rules: an answer is given to its own question only, with the client's id and spelling (some
clients vary the case of names to detect forgeries).  Each TTL is reduced by the answer's age.
An answer is not used once its smallest TTL has run out, nor after the clock was set back.
"""

from __future__ import annotations

import struct
from collections import OrderedDict

from nanotun.gateway.dns.answered import Grant
from nanotun.gateway.dns.message import HEADER_SIZE, Query
from nanotun.gateway.dns.records import Lifetime, forCache, readLifetime
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.trace import Trace

#: Bytes that an entry takes besides its messages, about.
OVERHEAD = 800

#: Bytes for each TTL of an answer, about.
TTL_COST = 120

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
        "raw",
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
    ) -> None:
        self.key = query.key
        self.grant = grant
        self.tally = tally
        self.raw = wire[2:]
        self.answer = forCache(answer, query)
        self.lifetime, self.ttls = life
        self.stored = now
        self.age = 0
        self.body = self.answer[2:]
        self.cost = 2 * len(answer) + 2 * len(wire) + TTL_COST * len(self.ttls) + OVERHEAD
        self.render(0)

    def render(self, age: int) -> None:
        """
        Write L{body} for an age.

        @param age: whole seconds, less than the lifetime.
        """
        body = bytearray(self.answer)
        for offset, ttl in self.ttls:
            _TTL.pack_into(body, offset, ttl - age)
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
    @ivar size: bytes that they take now, about.
    """

    def __init__(self, entries: int, size: int) -> None:
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
        entry = self._byKey.get(query.key)
        if entry is None:
            return None
        # Each answer is kept in one spelling, so a client that varies it fills no memory.
        del self._byRaw[entry.raw]
        entry.spell(wire, query.question)
        self._byRaw[entry.raw] = entry
        return self._give(entry, wire, now)

    def _give(self, entry: _Entry, wire: bytes, now: float) -> bytes | None:
        age = now - entry.stored
        if not 0 <= age < entry.lifetime:
            self._remove(entry)
            return None
        if age >= entry.age + 1 or age < entry.age:
            entry.render(int(age))
        self._byKey.move_to_end(entry.key)
        if entry.grant is not None:
            entry.grant.asked = now
        if entry.tally is not None:
            entry.tally.hits += 1
        return wire[:2] + entry.body

    def fill(self, trace: Trace, wire: bytes, now: float) -> None:
        """
        Say which answer was given just now.

        @param wire: the query, for which L{hit} or L{find} has given it.
        """
        entry = self._byRaw[wire[2:]]
        trace.stage = "cache"
        trace.cached = True
        trace.age = now - entry.stored
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
    ) -> None:
        """
        Keep an answer, if L{readLifetime} allows it.

        @param wire: the query.
        @param answer: matches the query.
        @param grant: is told each time the answer is given.
        @param tally: likewise.
        """
        if not query.key or not self._entriesLimit:
            return
        life = readLifetime(answer, query)
        if life is None:
            return
        old = self._byKey.get(query.key)
        if old is not None:
            self._remove(old)
        entry = _Entry(wire, query, answer, life, now, grant, tally)
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
