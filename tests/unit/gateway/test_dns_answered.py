"""
Tests for L{nanotun.gateway.dns.answered}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Known
from nanotun.gateway.dns.answered import (
    ADDRESSES_LIMIT,
    FORMS_LIMIT,
    GRACE,
    NAMES_LIMIT,
    AnsweredNames,
    Grant,
)
from nanotun.gateway.dns.cache import AnswerCache
from tests.unit.gateway.gateway_cases import CNAME, A, answer, ask, edns, name, read, record


def packed(last: int) -> bytes:
    """The address of 10.0.0.0/8 that ends in a number, 4 bytes."""
    return b"\x0a" + last.to_bytes(3, "big")


class NamesTests(SynchronousTestCase):
    """Tests for L{AnsweredNames}."""

    def setUp(self) -> None:
        """Room for four addresses."""
        self.names = AnsweredNames(4)

    def note(self, text: str, *lasts: int, ttl: int = 60, now: float = 0) -> Grant | None:
        """A client is given an answer with addresses of 10.0.0.0/8."""
        query = ask(text)
        message = answer(query, [record(A, ttl, packed(last)) for last in lasts])
        return self.names.note(message, read(query), now)

    def test_found(self) -> None:
        """Each address of an answer has the name that was asked for."""
        self.note("WWW.Example.com", 1, 2)
        self.assertEqual(self.names.find("10.0.0.1", 0), "www.example.com")
        self.assertEqual(self.names.find("10.0.0.2", 0), "www.example.com")
        self.assertIsNone(self.names.find("10.0.0.3", 0))

    def test_alias(self) -> None:
        """The name is the one that was asked for, not the last one of the chain of aliases."""
        query = ask("www.example.com")
        records = [
            record(CNAME, 9, name("cdn.example")),
            record(A, 9, packed(1), name("cdn.example")),
        ]
        self.names.note(answer(query, records), read(query), 0)
        self.assertEqual(self.names.find("10.0.0.1", 0), "www.example.com")

    def test_expires(self) -> None:
        """A name is kept for its TTL and the grace, even if it is asked for again meanwhile."""
        grant = self.note("a.example", 1, ttl=60)
        assert grant is not None
        grant.asked = 50
        self.assertEqual(self.names.find("10.0.0.1", 59.9 + GRACE), "a.example")
        self.assertIsNone(self.names.find("10.0.0.1", 60 + GRACE))

    def test_newest(self) -> None:
        """Of an address's names, the one asked for last is found, also from the cache."""
        first = self.note("a.example", 1, now=1)
        self.note("b.example", 1, now=2)
        self.assertEqual(self.names.find("10.0.0.1", 3), "b.example")
        assert first is not None
        first.asked = 3
        self.assertEqual(self.names.find("10.0.0.1", 3), "a.example")
        self.note("c.example", 1, now=3)
        self.assertEqual(self.names.find("10.0.0.1", 3), "c.example")

    def test_otherName(self) -> None:
        """When the newest name has expired, the one before it is found again."""
        self.note("a.example", 1, ttl=600)
        self.note("b.example", 1, ttl=0, now=1)
        self.assertEqual(self.names.find("10.0.0.1", GRACE), "b.example")
        self.assertEqual(self.names.find("10.0.0.1", GRACE + 1), "a.example")

    def test_cache(self) -> None:
        """An answer from the cache counts as asked for."""
        cache = AnswerCache(10, 100_000)
        wire = ask("a.example")
        message = answer(wire, [record(A, 60, packed(1))])
        cache.store(wire, read(wire), message, 0, self.names.note(message, read(wire), 0))
        self.note("b.example", 1, now=1)
        self.assertIsNotNone(cache.hit(wire, 2))
        self.assertEqual(self.names.find("10.0.0.1", 2), "a.example")
        self.note("b.example", 1, now=3)
        other = ask("A.example")
        self.assertIsNotNone(cache.find(other, read(other), 4))
        self.assertEqual(self.names.find("10.0.0.1", 4), "a.example")

    def test_notHosts(self) -> None:
        """A name that must not be sent to an upstream is not remembered."""
        for text in ("1.2.3.4", "a b.example", "*.example", "x.0x1"):
            self.assertIsNone(self.note(text, 1))
        self.assertEqual(len(self.names), 0)

    def test_bounded(self) -> None:
        """The address not handed out for longest is forgotten; the cache's answers count."""
        grants = [self.note(f"n{number}.example", number, now=number) for number in range(4)]
        assert grants[0] is not None
        grants[0].asked = 10
        self.note("new.example", 9, now=11)
        self.assertEqual(len(self.names), 4)
        self.assertEqual(self.names.find("10.0.0.0", 12), "n0.example")
        self.assertIsNone(self.names.find("10.0.0.1", 12))
        self.note("many.example", *range(100, 120), now=12)
        self.assertEqual(len(self.names), 4)

    def test_shared(self) -> None:
        """The last L{NAMES_LIMIT} names of an address are kept, each once."""
        for turn in range(3):
            for number in range(2 * NAMES_LIMIT):
                self.note(f"n{number}.example", 1, now=turn * 100 + number)
        address = self.names._byHost["10.0.0.1"]
        expected = [f"n{number}.example" for number in range(NAMES_LIMIT, 2 * NAMES_LIMIT)]
        self.assertEqual([grant.name for grant in address.grants], expected)

    def test_all(self) -> None:
        """All names of an address are told, the one asked for last first, also from the cache."""
        first = self.note("a.example", 1, now=1)
        self.note("b.example", 1, 2, now=2)
        self.note("c.example", 1, ttl=5, now=3)
        assert first is not None
        self.assertEqual(
            self.names.all("10.0.0.1", 4), Known(("c.example", "b.example", "a.example"))
        )
        first.asked = 5
        self.assertEqual(
            self.names.all("10.0.0.1", 5), Known(("a.example", "c.example", "b.example"))
        )
        self.assertEqual(self.names.all("10.0.0.1", 9 + GRACE), Known(("a.example", "b.example")))
        self.assertEqual(self.names.all("10.0.0.2", 5), Known(("b.example",)))
        self.assertEqual(self.names.all("10.0.0.3", 5), Known())

    def test_notWhole(self) -> None:
        """Of an address with more names than are kept, it is said that there are others, for as
        long as those would count."""
        for number in range(NAMES_LIMIT + 1):
            self.note(f"n{number}.example", 1, ttl=10 * (9 - number), now=number)
        known = self.names.all("10.0.0.1", 9)
        self.assertEqual((len(known.names), known.whole), (NAMES_LIMIT, False))
        # The first one's 90 s are the longest.
        self.assertFalse(self.names.all("10.0.0.1", 89 + GRACE).whole)
        self.assertTrue(self.names.all("10.0.0.1", 90 + GRACE).whole)

    def test_notWanted(self) -> None:
        """A name whose addresses are not wanted leaves no trace."""
        self.names = AnsweredNames(wanted=lambda name: name != "a.example")
        self.assertIsNone(self.note("A.example", 1))
        self.assertIsNotNone(self.note("b.example", 1))
        self.assertEqual(self.names.all("10.0.0.1", 1), Known(("b.example",)))

    def test_clear(self) -> None:
        """After clear no name is known."""
        self.note("a.example", 1)
        self.names.clear()
        self.assertIsNone(self.names.find("10.0.0.1", 0))
        self.assertGreater(ADDRESSES_LIMIT, 1000)


class FormTests(SynchronousTestCase):
    """Tests for a name that is asked for in several forms, each kept in the cache by itself."""

    def setUp(self) -> None:
        """A cache, and the names of what is in it."""
        self.names = AnsweredNames()
        self.cache = AnswerCache(10, 100_000)

    def ask(self, text: str, now: float, extension: bytes = b"", flags: int = 0x100) -> None:
        """A client asks for a name's address, 192.0.2.1, which the cache has from then on."""
        wire = ask(text, extension=extension, flags=flags)
        if self.cache.hit(wire, now) is None:
            query, message = read(wire), answer(wire, [record(A, 60)])
            self.cache.store(wire, query, message, now, self.names.note(message, query, now))

    def test_forms(self) -> None:
        """Each form of a question counts when its answer is given from the cache."""
        self.ask("a.example", 1)
        self.ask("a.example", 2, edns())
        self.ask("b.example", 3)
        self.assertEqual(self.names.find("192.0.2.1", 3), "b.example")
        self.ask("a.example", 4)
        self.assertEqual(self.names.find("192.0.2.1", 4), "a.example")
        self.ask("b.example", 5)
        self.ask("a.example", 6, edns())
        self.assertEqual(self.names.all("192.0.2.1", 6), Known(("a.example", "b.example")))

    def test_bounded(self) -> None:
        """Of one name at most L{FORMS_LIMIT} forms are kept, and no other name goes for them."""
        self.ask("b.example", 1)
        for flags in (0x100, 0x120, 0x110, 0x130, 0):
            self.ask("a.example", 2, edns(), flags)
        self.assertEqual(self.names.all("192.0.2.1", 2), Known(("a.example", "b.example")))
        grants = self.names._byHost["192.0.2.1"].grants
        self.assertEqual(len(grants), FORMS_LIMIT + 1)
