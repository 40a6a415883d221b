"""
Answers that are still true.

A hit costs one look into a dictionary: the bytes of the query behind its id are
the key, and the answer has been written for this second already.  Behind that
stands the key that L{nanotun.gateway.dns.message.readQuery} makes, for the same question
in another spelling.

Rules: an answer is given for its own question only, with the asker's id and
spelling (some clients vary the case of names to tell forgeries); each TTL is
less by the answer's age; an answer is not used when its smallest TTL has run
out, nor when the clock was set back.
"""

from __future__ import annotations

import struct
from collections import OrderedDict

from nanotun.gateway.dns.answered import Grant
from nanotun.gateway.dns.message import HEADER_SIZE, Query
from nanotun.gateway.dns.records import Lifetime, forCache, readLifetime

#: Bytes that an entry takes besides its messages.
OVERHEAD = 800

#: Bytes for each TTL that is remembered.
TTL_COST = 120

_TTL = struct.Struct("!I")


class _Entry:
    """
    One answer.

    @ivar raw: the query that L{AnswerCache.hit} finds it by, without the id.
    @ivar answer: as it came, at L{stored}.
    @ivar body: as it is at L{age}, without the id.
    @ivar grant: what is to know when the answer is given.
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
    ) -> None:
        self.key = query.key
        self.grant = grant
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
        Write the body for an age.

        @param age: seconds, less than the lifetime.
        """
        body = bytearray(self.answer)
        for offset, ttl in self.ttls:
            _TTL.pack_into(body, offset, ttl - age)
        self.age = age
        self.body = bytes(body[2:])

    def spell(self, wire: bytes, question: bytes) -> None:
        """Answer this query from now on: the same question, perhaps spelled otherwise."""
        self.raw = wire[2:]
        rest = self.answer[HEADER_SIZE + len(question) :]
        self.answer = self.answer[:HEADER_SIZE] + question + rest
        self.render(self.age)


class AnswerCache:
    """
    Answers by question, the least recently used given up first.

    @param entries: how many answers; 0 for none.
    @param size: bytes for all of them.
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
        The answer if just this query was answered before.

        @param now: seconds, of any clock.
        """
        entry = self._byRaw.get(wire[2:])
        if entry is None:
            return None
        return self._give(entry, wire, now)

    def find(self, wire: bytes, query: Query, now: float) -> bytes | None:
        """The answer if this question was answered before, in whatever spelling."""
        entry = self._byKey.get(query.key)
        if entry is None:
            return None
        # One spelling for each answer: a client that varies them fills nothing.
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
        return wire[:2] + entry.body

    def store(
        self, wire: bytes, query: Query, answer: bytes, now: float, grant: Grant | None = None
    ) -> None:
        """
        Keep an answer, if it may be kept.

        @param wire: the query.
        @param answer: matches it.
        @param grant: is told whenever the answer is given.
        """
        if not query.key or not self._entriesLimit:
            return
        life = readLifetime(answer, query)
        if life is None:
            return
        old = self._byKey.get(query.key)
        if old is not None:
            self._remove(old)
        entry = _Entry(wire, query, answer, life, now, grant)
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
