"""
Tests for L{nanotun.gateway.dns.cache}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.addresses import readAddresses
from nanotun.gateway.dns.answered import Grant
from nanotun.gateway.dns.cache import RETRY, AnswerCache
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.trace import Trace
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


class StaleTests(SynchronousTestCase):
    """Answers after their time."""

    def setUp(self) -> None:
        """An answer that is valid for a minute, and may be given for an hour after that."""
        self.counters = Counters()
        self.cache = AnswerCache(100, 1_000_000, 3600, self.counters)
        self.store(ask(), answer(ask(), [record(A, 60)]), 0)

    def store(self, wire: bytes, message: bytes, now: float) -> None:
        """Keep an answer."""
        self.cache.store(wire, read(wire), message, now)

    def stale(self, wire: bytes, now: float) -> bytes | None:
        """Ask for an answer as the relay does when no server responds."""
        return self.cache.stale(wire, read(wire), now, lambda answer: None)

    def test_given(self) -> None:
        """It is given if it is asked for as stale, for as long as allowed, with 30 s to live."""
        self.assertIsNone(self.stale(ask(), 59), "its time is not over")
        self.assertIsNone(self.cache.hit(ask(), 60))
        self.assertIsNone(self.cache.find(ask(), read(ask()), 60))
        expected = answer(ask(ident=7), [record(A, 30)])
        self.assertEqual(self.stale(ask(ident=7), 61), expected)
        self.assertEqual(self.stale(ask(ident=7), 3659), expected)
        self.assertIsNone(self.stale(ask(), 3660))
        self.assertIsNone(self.cache.hit(ask(), 3660))
        self.assertEqual((len(self.cache), self.cache.size), (0, 0))

    def test_again(self) -> None:
        """For 30 s after that it is given at once, in any spelling, and counted."""
        self.stale(ask(), 100)
        for at in (100, 110.5, 99.9 + RETRY):
            self.assertEqual(self.cache.hit(ask(), at), answer(ask(), [record(A, 30)]))
        other = ask("WWW.example.COM", ident=3)
        expected = answer(other, [record(A, 30)])
        self.assertEqual(self.cache.find(other, read(other), 120), expected)
        self.assertEqual(self.counters.stale, 4)
        self.assertIsNone(self.cache.hit(other, 100 + RETRY))
        self.assertEqual(self.stale(ask(), 100 + RETRY), answer(ask(), [record(A, 30)]))

    def test_used(self) -> None:
        """An answer that is given so is not the next to be dropped."""
        self.cache = AnswerCache(2, 1_000_000, 3600)
        for text in ("old.example", "other.example"):
            self.store(ask(text), answer(ask(text), [record(A, 60)]), 0)
        self.stale(ask("old.example"), 61)
        self.store(ask(), answer(ask()), 61)
        self.assertIsNotNone(self.stale(ask("old.example"), 62))
        self.assertIsNone(self.stale(ask("other.example"), 62))

    def test_spelling(self) -> None:
        """Who asks in another spelling gets that one."""
        other = ask("WWW.example.COM", ident=3)
        self.assertEqual(self.stale(other, 61), answer(other, [record(A, 30)]))

    def test_replaced(self) -> None:
        """A new answer takes its place, even while the old one is given at once."""
        self.stale(ask(), 61)
        self.store(ask(), answer(ask(), [record(A, 60, b"\1\1\1\1")]), 62)
        got = self.cache.hit(ask(), 63)
        assert got is not None
        self.assertEqual(readAddresses(got, read(ask())), (["1.1.1.1"], 59))

    def test_refreshed(self) -> None:
        """A new answer ends the old one although it may not be kept itself; an error or a
        truncated answer does not."""
        for flags in (0x8182, 0x8185, 0x8380):
            self.store(ask(), answer(ask(), [], flags=flags), 61)
            self.assertIsNotNone(self.stale(ask(), 62), hex(flags))
        for message in (answer(ask(), [record(A, 0)]), answer(ask(), [], flags=0x8183)):
            self.store(ask(), message, 61)
            self.assertIsNone(self.stale(ask(), 62))
            self.store(ask(), answer(ask(), [record(A, 60)]), 0)

    def test_denial(self) -> None:
        """A denial is never given after its time."""
        wire = ask("no.example")
        self.store(wire, answer(wire, [], [soa(60, 60)], flags=0x8183), 0)
        self.assertIsNone(self.stale(wire, 61))
        self.assertIsNone(self.cache.hit(wire, 61))
        self.assertEqual(len(self.cache), 1)

    def test_off(self) -> None:
        """Where that is not wanted, an answer is dropped when its time is over."""
        self.cache = AnswerCache(100, 1_000_000)
        self.store(ask(), answer(ask(), [record(A, 60)]), 0)
        self.assertIsNone(self.stale(ask(), 60))
        self.assertIsNone(self.cache.hit(ask(), 60))
        self.assertEqual(len(self.cache), 0)

    def test_unknown(self) -> None:
        """A question that was never answered, or whose answer is not shared, has none."""
        self.assertIsNone(self.stale(ask("other.example"), 61))
        self.assertIsNone(self.stale(ask(extension=edns(options=b"\0\x0a\0\0")), 61))

    def test_clockSetBack(self) -> None:
        """An answer from the future is not given after its time either."""
        self.store(ask(), answer(ask(), [record(A, 60)]), 1000)
        self.assertIsNone(self.stale(ask(), 900))

    def test_noted(self) -> None:
        """Its addresses are noted anew, as the earlier note ends soon after the answer's time;
        each time that it is given, the new note is told."""
        noted: list[bytes] = []
        grant = Grant("www.example.com", b"", 400, 61)

        def note(answer: bytes) -> Grant:
            noted.append(answer)
            return grant

        self.cache.stale(ask(), read(ask()), 61, note)
        self.assertEqual(noted, [answer(ask(), [record(A, 30)])])
        self.cache.hit(ask(), 70)
        self.assertEqual(grant.asked, 70)

    def test_trace(self) -> None:
        """Whoever wants to know is told that it is stale, and how old it is."""
        trace = Trace()
        for now, stage in ((20.0, "cache"), (70.0, "stale")):
            self.cache.hit(ask(), now)
            self.cache.fill(trace, ask(), now)
            self.assertEqual((trace.stage, trace.cached, trace.age), (stage, True, now))
