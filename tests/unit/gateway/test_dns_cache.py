"""
Tests for L{nanotun.gateway.dns.cache}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.cache import AnswerCache
from tests.unit.gateway.gateway_cases import HTTPS, A, answer, ask, edns, read, record, soa


class CacheTests(SynchronousTestCase):
    """Tests for L{AnswerCache}."""

    def setUp(self) -> None:
        """A cache with room for all."""
        self.cache = AnswerCache(100, 1_000_000)

    def store(self, wire: bytes, message: bytes | None = None, now: float = 0) -> None:
        """Keep an answer."""
        self.cache.store(wire, read(wire), answer(wire) if message is None else message, now)

    def get(self, wire: bytes, now: float = 0) -> bytes | None:
        """Look an answer up as the relay does."""
        return self.cache.hit(wire, now) or self.cache.find(wire, read(wire), now)

    def test_hit(self) -> None:
        """The same query gets the answer with its own id."""
        self.store(ask(ident=1))
        self.assertEqual(self.cache.hit(ask(ident=77), 0), answer(ask(ident=77)))
        self.assertIsNone(self.cache.hit(ask("other.example"), 0))

    def test_spelling(self) -> None:
        """Each spelling gets the answer in its own spelling, however often it changes."""
        self.store(ask("www.example.com"))
        for _ in range(2):
            for text in ("wWw.example.com", "www.example.COM", "www.example.com"):
                self.assertEqual(self.get(ask(text, ident=4)), answer(ask(text, ident=4)))
        self.assertEqual(len(self.cache), 1)
        self.assertIsNotNone(self.cache.hit(ask("www.example.com"), 0))
        self.assertIsNone(self.cache.hit(ask("wWw.example.com"), 0))

    def test_questionOfServer(self) -> None:
        """The client sees its own spelling, whatever the server's is."""
        wire = ask("wWw.example.com")
        self.store(wire, answer(ask("www.example.com")))
        self.assertEqual(self.get(wire), answer(wire))

    def test_otherQuestions(self) -> None:
        """Another type, flag or EDNS is another question."""
        self.store(ask(kind=HTTPS), answer(ask(kind=HTTPS), [record(HTTPS, 300)]))
        for other in (
            ask(),
            ask(kind=HTTPS + 32),
            ask(kind=HTTPS, flags=0x0110),
            ask(kind=HTTPS, flags=0),
            ask(kind=HTTPS, extension=edns()),
            ask(kind=HTTPS, extension=edns(flags=0x8000)),
        ):
            self.assertIsNone(self.get(other), other)

    def test_age(self) -> None:
        """Each TTL counts down, and the answer expires with the first that runs out."""
        wire = ask()
        self.store(wire, answer(wire, [record(A, 300), record(A, 20)]), now=1000.5)
        for age in (0, 0.9, 1, 7.5, 19.9):
            expected = answer(wire, [record(A, 300 - int(age)), record(A, 20 - int(age))])
            self.assertEqual(self.get(wire, 1000.5 + age), expected)
        self.assertIsNone(self.get(wire, 1020.5))
        self.assertEqual((len(self.cache), self.cache.size), (0, 0))

    def test_denial(self) -> None:
        """The TTL of a denial's SOA counts down from the lesser of its two times."""
        wire = ask()
        self.store(wire, answer(wire, [], [soa(600, 60)], flags=0x8183))
        self.assertEqual(self.get(wire, 10), answer(wire, [], [soa(50, 60)], flags=0x8183))
        self.assertIsNone(self.get(wire, 60))

    def test_clockSetBack(self) -> None:
        """An answer from the future is not given."""
        self.store(ask(), now=1000)
        self.assertIsNone(self.get(ask(), 999))

    def test_notAuthoritative(self) -> None:
        """An answer from the cache is not authoritative."""
        self.store(ask(), answer(ask(), flags=0x8580))
        self.assertEqual(self.get(ask()), answer(ask(), flags=0x8180))

    def test_replaced(self) -> None:
        """A newer answer replaces the older one, also if it is spelled differently."""
        self.store(ask("a.example"))
        self.store(ask("A.example"), answer(ask("A.example"), [record(A, 5)]))
        self.assertEqual(len(self.cache), 1)
        self.assertIsNone(self.get(ask("a.example"), 5))

    def test_notShared(self) -> None:
        """The answer to a query that may not be shared is not kept."""
        wire = ask(extension=edns(options=b"\0\x0a\0\x08" + bytes(8)))
        self.store(wire)
        self.assertEqual(len(self.cache), 0)

    def test_entriesLimit(self) -> None:
        """The answer that was not used for longest is dropped."""
        self.cache = AnswerCache(3, 1_000_000)
        for text in ("a", "b", "c"):
            self.store(ask(text))
        self.get(ask("a"))
        self.store(ask("d"))
        kept = [text for text in ("a", "b", "c", "d") if self.get(ask(text))]
        self.assertEqual(kept, ["a", "c", "d"])

    def test_sizeLimit(self) -> None:
        """Bytes are limited too; an answer larger than the limit drives no other out."""
        self.cache = AnswerCache(1000, 50_000)
        for number in range(100):
            self.store(ask(f"host{number}.example"))
        self.assertLessEqual(self.cache.size, 50_000)
        before = len(self.cache)
        self.assertGreater(before, 10)
        self.store(ask(), answer(ask(), [record(A, 9, bytes(60_000))]))
        self.assertEqual(len(self.cache), before)

    def test_off(self) -> None:
        """A cache for no entries keeps nothing."""
        self.cache = AnswerCache(0, 0)
        self.store(ask())
        self.assertIsNone(self.get(ask()))

    def test_clear(self) -> None:
        """After clear nothing is left."""
        self.store(ask())
        self.cache.clear()
        self.assertIsNone(self.get(ask()))
        self.assertEqual((len(self.cache), self.cache.size), (0, 0))
