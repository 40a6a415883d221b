"""
Tests for L{nanotun.gateway.dns.relay}, with the exchanges below it.
"""

from __future__ import annotations

from collections.abc import Hashable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import UpstreamError
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.exchange import ATTEMPT_TIMEOUT, ATTEMPTS
from nanotun.gateway.dns.exchanges import LARGE_LIMIT
from nanotun.gateway.dns.message import (
    AXFR,
    FORMERR,
    IXFR,
    NOERROR,
    NOTIMP,
    REFUSED,
    SERVFAIL,
)
from nanotun.gateway.dns.relay import DnsRelay
from tests.unit.gateway.gateway_cases import (
    FIRST,
    SECOND,
    A,
    FakeQueries,
    answer,
    ask,
    choiceOf,
    edns,
    isTruncated,
    rcode,
    record,
)


class RelayCase(SynchronousTestCase):
    """A relay between the test's clients and the test's servers."""

    def setUp(self) -> None:
        """A small cache, two servers and small limits."""
        self.clock = Clock()
        self.queries = FakeQueries(FIRST, SECOND)
        self.counters = Counters()
        self.relay = DnsRelay(self.clock, choiceOf(self.queries), self.counters, 10, 100_000, 6, 4)
        self.got: list[tuple[Hashable, bytes]] = []

    def query(self, wire: bytes, client: Hashable = "c", overTCP: bool = False) -> bool:
        """A client sends a query."""

        def reply(message: bytes) -> None:
            self.got.append((client, message))

        return self.relay.query(wire, client, reply, overTCP)

    def messages(self) -> list[bytes]:
        """The answers that the clients got."""
        return [message for _, message in self.got]


class RelayTests(RelayCase):
    """Tests for L{DnsRelay}."""

    def test_answer(self) -> None:
        """A client gets the answer with its query's id; then the cache has it."""
        wire = ask(ident=0x4142)
        self.assertTrue(self.query(wire))
        self.assertEqual([each[:2] for each in self.queries.asked], [(FIRST, False)])
        self.queries.answer(answer(wire))
        self.assertTrue(self.query(ask(ident=5)))
        self.assertTrue(self.query(ask("WWW.example.com", ident=6)))
        expected = [wire, ask(ident=5), ask("WWW.example.com", ident=6)]
        self.assertEqual(self.messages(), [answer(each) for each in expected])
        self.assertEqual((self.counters.queries, self.counters.hits), (3, 2))
        self.assertEqual(self.counters.misses, 1)
        self.assertEqual(self.relay.inFlight, 0)

    def test_noMiss(self) -> None:
        """A query that asks servers of its own, or is none, is no miss of the cache."""
        self.query(ask()[:11])
        reply: list[bytes] = []
        self.relay.query(ask(), "c", reply.append, servers=FakeQueries(FIRST))
        self.assertEqual((self.counters.queries, self.counters.misses), (2, 0))

    def test_repeated(self) -> None:
        """A repeated query is not sent again, and gets one answer."""
        self.assertTrue(self.query(ask()))
        self.assertFalse(self.query(ask()))
        self.queries.answer(answer(ask()))
        self.assertEqual(len(self.queries.asked), 1)
        self.assertEqual(self.messages(), [answer(ask())])

    def test_shared(self) -> None:
        """The same query of several clients is sent once, and each gets its own id back."""
        for number, client in enumerate("abc"):
            self.query(ask(ident=number), client)
        self.query(ask(ident=9), "a")
        self.queries.answer(answer(ask()))
        self.assertEqual(len(self.queries.asked), 1)
        idents = [(client, message[1]) for client, message in self.got]
        self.assertEqual(idents, [("a", 0), ("b", 1), ("c", 2), ("a", 9)])

    def test_notShared(self) -> None:
        """A query that differs in anything but its id is sent on its own."""
        self.query(ask(), "a")
        self.query(ask(extension=edns()), "b")
        self.assertEqual(len(self.queries.asked), 2)

    def test_nextServer(self) -> None:
        """If a server is silent the next is asked; the first may still answer."""
        self.query(ask())
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual([each[0] for each in self.queries.asked], [FIRST, SECOND])
        self.assertFalse(self.queries.attempts[0].cancelled)
        self.queries.answer(answer(ask()), attempt=0)
        self.assertEqual(self.messages(), [answer(ask())])
        self.assertTrue(all(attempt.cancelled for attempt in self.queries.attempts))
        self.assertEqual(self.queries.events, [("timedOut", FIRST), ("answered", FIRST)])

    def test_allSilent(self) -> None:
        """If all servers are silent the answer is SERVFAIL, before the client gives up."""
        self.query(ask(extension=edns()))
        for _ in range(ATTEMPTS):
            self.assertEqual(self.got, [])
            self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual([rcode(message) for message in self.messages()], [SERVFAIL])
        self.assertEqual([each[0] for each in self.queries.asked], [FIRST, SECOND, FIRST])
        self.assertLess(self.clock.seconds(), 5)
        self.assertEqual((self.counters.servfail, self.relay.inFlight), (1, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """If a server refuses, the next is asked at once."""
        self.query(ask())
        for _ in range(2):
            self.queries.asked[0].failed()
        self.assertEqual([each[0] for each in self.queries.asked], [FIRST, SECOND])
        self.clock.advance(ATTEMPT_TIMEOUT - 0.1)
        self.assertEqual(len(self.queries.asked), 2)

    def test_noWay(self) -> None:
        """If no query can be sent the answer is SERVFAIL at once."""
        for error in (OSError("unreachable"), UpstreamError("no more descriptors")):
            self.queries.error = error
            self.query(ask())
        self.assertEqual([rcode(message) for message in self.messages()], [SERVFAIL] * 2)
        self.assertEqual(self.relay.inFlight, 0)

    def test_manyDeadlines(self) -> None:
        """Each exchange has its own deadline, and one delayed call serves them all."""
        self.query(ask("a"))
        self.clock.advance(1)
        self.query(ask("b"))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(ATTEMPT_TIMEOUT - 1)
        self.assertEqual(len(self.queries.asked), 3)
        self.clock.advance(1)
        self.assertEqual(len(self.queries.asked), 4)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_errorPasses(self) -> None:
        """A server's SERVFAIL is its answer: no other server is asked, and it is not kept."""
        message = answer(ask(), [], flags=0x8182)
        for _ in range(2):
            self.query(ask())
            self.queries.answer(message)
        self.assertEqual(self.messages(), [message] * 2)
        self.assertEqual([each[0] for each in self.queries.asked], [FIRST, FIRST])

    def test_unknownPasses(self) -> None:
        """A query that is not understood is passed on as it is, and so is its answer."""
        wire = ask(kind=65400, extension=b"\3xyz\0\xff\x10\xff\1\0\0\0\7\0\3abc") + b"whatever"
        self.query(wire)
        self.assertEqual(self.queries.asked[0].wire, wire)
        message = answer(wire, flags=0x8185) + b"as well"
        self.queries.answer(message)
        self.assertEqual(self.messages(), [message])

    def test_otherOpcodes(self) -> None:
        """An update or a notification is refused at once, and never sent anywhere."""
        for flags in (0x2800, 0x2400, 0x1000):
            for overTCP in (False, True):
                self.query(ask(flags=flags), overTCP=overTCP)
        self.assertEqual(self.queries.asked, [])
        self.assertEqual([rcode(message) for message in self.messages()], [NOTIMP] * 6)
        self.assertEqual({message[2] & 0x78 for message in self.messages()}, {0x28, 0x20, 0x10})
        self.assertEqual(self.counters.notQueries, 6)

    def test_transfer(self) -> None:
        """The transfer of a zone is sent nowhere: by UDP the client comes by TCP instead."""
        for kind in (AXFR, IXFR):
            self.query(ask(kind=kind))
            self.query(ask(kind=kind), overTCP=True)
        self.assertEqual(self.queries.asked, [])
        found = [(rcode(message), isTruncated(message)) for message in self.messages()]
        self.assertEqual(found, [(NOERROR, True), (REFUSED, False)] * 2)


class LimitTests(RelayCase):
    """Sizes and limits."""

    def large(self, wire: bytes) -> bytes:
        """An answer of more than 512 bytes."""
        return answer(wire, [record(A, 300)] * 60)

    def test_sizes(self) -> None:
        """An answer is cut to what its client takes by UDP, and never by TCP."""
        small, roomy = ask(), ask(extension=edns(4096))
        for _ in range(2):
            # The second time from the cache.
            self.query(small)
            self.query(small, overTCP=True, client="t")
            self.query(roomy)
            for wire in (small, roomy):
                if len(self.got) < 3:
                    self.queries.answer(self.large(wire), attempt=[small, roomy].index(wire))
        sizes = sorted((isTruncated(message), len(message)) for message in self.messages())
        full = len(self.large(small))
        self.assertEqual(sizes, [(False, full)] * 4 + [(True, 33)] * 2)
        self.assertEqual(self.counters.truncated, 2)

    def test_truncatedByServer(self) -> None:
        """A truncated answer is for clients by UDP; for others its server is asked by TCP."""
        cut = answer(ask(), [], flags=0x8380)
        self.query(ask(ident=1), "udp")
        self.query(ask(ident=2), "tcp", overTCP=True)
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.queries.answer(cut)
        self.assertEqual(self.got, [("udp", cut)])
        self.assertEqual(self.queries.asked[-1][:2], (SECOND, True))
        self.queries.answer(self.large(ask()), attempt=0)
        self.assertEqual(len(self.got), 1, "UDP is over")
        self.queries.answer(self.large(ask()))
        self.assertEqual(self.got[1:], [("tcp", self.large(ask(ident=2)))])
        self.assertEqual(self.relay.inFlight, 0)

    def test_truncatedForAll(self) -> None:
        """Without a client by TCP a truncated answer ends the exchange, and is not kept."""
        cut = answer(ask(), [], flags=0x8380)
        self.query(ask())
        self.queries.answer(cut)
        self.query(ask())
        self.assertEqual([each[1] for each in self.queries.asked], [False, False])
        self.assertEqual(self.counters.servfail, 0)

    def test_tcpFails(self) -> None:
        """If no server can be asked by TCP the answer is SERVFAIL."""
        self.query(ask(), overTCP=True)
        self.queries.answer(answer(ask(), [], flags=0x8380))
        for _ in range(ATTEMPTS):
            self.assertTrue(self.queries.asked[-1].overTCP)
            self.queries.asked[-1].failed()
        self.assertEqual([rcode(message) for message in self.messages()], [SERVFAIL])

    def test_largeQuery(self) -> None:
        """A query that is too large for UDP is sent by TCP at once."""
        self.query(ask(extension=edns(options=bytes(1000))), overTCP=True)
        self.assertEqual(self.queries.asked[0][:2], (FIRST, True))

    def test_inFlight(self) -> None:
        """Over the limit of a client, or of all, the answer is SERVFAIL at once."""
        for number in range(5):
            self.query(ask(f"a{number}"), "a")
        self.assertEqual([rcode(message) for message in self.messages()], [SERVFAIL])
        for number in range(3):
            self.query(ask(f"b{number}"), "b")
        self.assertEqual(len(self.got), 2)
        self.assertEqual((self.counters.limited, self.relay.inFlight), (2, 6))
        self.queries.answer(answer(ask("a0")), attempt=0)
        self.query(ask("a9"), "a")
        self.assertEqual((self.counters.limited, len(self.queries.asked)), (2, 7))

    def test_large(self) -> None:
        """Large queries are limited by their bytes; small ones pass all the same."""
        self.relay = DnsRelay(self.clock, choiceOf(self.queries), self.counters, 10, 100_000)
        size = 60_000
        wires = [
            ask(f"a{number}", extension=edns(options=bytes(size)))
            for number in range(LARGE_LIMIT // size + 1)
        ]
        for wire in wires:
            self.query(wire, overTCP=True)
        self.query(wires[0], "b", overTCP=True)
        self.assertEqual([rcode(message) for message in self.messages()], [SERVFAIL])
        self.assertEqual((self.counters.limited, self.counters.joined), (1, 1))
        self.query(ask("small"))
        self.assertEqual((len(self.got), len(self.queries.asked)), (1, len(wires)))
        self.queries.answer(answer(wires[0]), attempt=0)
        self.query(wires[-1], overTCP=True)
        self.assertEqual((len(self.got), len(self.queries.asked)), (3, len(wires) + 1))
        self.relay.stop()
        self.query(wires[-1], overTCP=True)
        self.assertEqual(self.counters.limited, 1)

    def test_malformed(self) -> None:
        """A malformed question gets FORMERR, and bytes that are no query get nothing."""
        self.assertTrue(self.query(ask()[:-1]))
        self.assertFalse(self.query(b"short"))
        self.assertFalse(self.query(answer(ask())))
        self.assertEqual([rcode(message) for message in self.messages()], [FORMERR])
        self.assertEqual((self.counters.malformed, self.queries.asked), (3, []))

    def test_clearCache(self) -> None:
        """A query from before the cache was cleared is answered, and its answer not kept."""
        self.query(ask("a"))
        self.queries.answer(answer(ask("a")))
        self.query(ask("b"))
        self.relay.clearCache()
        self.queries.answer(answer(ask("b")))
        self.assertEqual((len(self.got), len(self.relay.cache)), (2, 0))

    def test_stop(self) -> None:
        """After stop no query is under way, and no client hears anything."""
        self.query(ask())
        self.relay.stop()
        self.assertTrue(self.queries.attempts[0].cancelled)
        self.queries.answer(answer(ask()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((self.got, self.relay.inFlight), ([], 0))
