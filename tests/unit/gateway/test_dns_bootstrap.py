"""
Tests for L{nanotun.gateway.dns.bootstrap}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.bootstrap import (
    ADDRESS_AGE,
    UNREACHED_AGE,
    AddressError,
    OwnLookup,
    OwnLookupError,
    ServerAddresses,
)
from nanotun.gateway.dns.exchange import ATTEMPT_TIMEOUT, ATTEMPTS
from nanotun.interfaces import DnsServer
from tests.unit.gateway.gateway_cases import (
    AAAA,
    FIRST,
    SECOND,
    A,
    FakeQueries,
    answer,
    ask,
    record,
)

NAME = "dns.example"
FOUR, SIX = "192.0.2.53", "2001:db8::53"
DATA4, DATA6 = b"\xc0\0\x02\x35", b"\x20\x01\x0d\xb8" + bytes(11) + b"\x53"


class OwnLookupTests(SynchronousTestCase):
    """Tests for L{OwnLookup}."""

    def setUp(self) -> None:
        """Servers to ask."""
        self.clock = Clock()
        self.queries = FakeQueries(FIRST, SECOND)
        self.own = OwnLookup(self.clock, 3)
        self.begun: list[Deferred[bytes | None]] = []
        self.addCleanup(self.end)

    def end(self) -> None:
        """Give up what is still under way."""
        self.own.stop()
        for each in self.begun:
            each.addErrback(lambda reason: reason.trap(CancelledError) and None)

    def ask(self) -> Deferred[bytes | None]:
        """Ask for the name's addresses."""
        self.begun.append(self.own.ask(NAME, A, self.queries))
        return self.begun[-1]

    def test_asks(self) -> None:
        """The servers get a short query for the name, and their answer is given on whole."""
        found = self.ask()
        (asked,) = self.queries.asked
        self.assertEqual((asked.server, asked.wire), (FIRST, ask(NAME, ident=0)))
        self.assertNoResult(found)
        given = answer(asked.wire, [], flags=0x8183)
        self.queries.answer(given)
        got = self.successResultOf(found)
        assert got is not None
        self.assertEqual(got[2:], given[2:])

    def test_noAnswer(self) -> None:
        """If no server answers, that is known after the time of three attempts."""
        found = self.ask()
        for _ in range(ATTEMPTS - 1):
            self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertNoResult(found)
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertIsNone(self.successResultOf(found))
        self.assertEqual([each.server for each in self.queries.asked], [FIRST, SECOND, FIRST])

    def test_cannotAsk(self) -> None:
        """If no server can be asked, or there is none, that is known at once."""
        self.queries.error = OSError("no route")
        self.assertIsNone(self.successResultOf(self.ask()))
        self.queries.servers = ()
        self.assertIsNone(self.successResultOf(self.ask()))

    def test_truncated(self) -> None:
        """A truncated answer is not taken: the servers are asked again by TCP."""
        found = self.ask()
        wire = self.queries.asked[0].wire
        self.queries.answer(answer(wire, [], flags=0x8380))
        self.assertNoResult(found)
        self.assertEqual([each.overTCP for each in self.queries.asked], [False, True])
        self.queries.answer(answer(wire))
        self.assertIsNotNone(self.successResultOf(found))

    def test_limit(self) -> None:
        """Over the limit a question fails at once, which is told apart from no answer."""
        asked = [self.ask() for _ in range(3)]
        error = self.failureResultOf(self.ask(), OwnLookupError)
        self.assertEqual(str(error.value), "too many names are being looked up")
        self.queries.answer(answer(ask(NAME)), 0)
        self.successResultOf(asked[0])
        self.assertNoResult(self.ask())

    def test_cancelled(self) -> None:
        """A question that is cancelled is asked no more, and makes room for another."""
        for _ in range(5):
            found = self.ask()
            found.cancel()
            self.failureResultOf(found, CancelledError)
        self.assertTrue(all(each.cancelled for each in self.queries.attempts))
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual(len(self.queries.asked), 5)

    def test_stopped(self) -> None:
        """When it stops, all questions fail, and no timer is left."""
        asked = [self.ask() for _ in range(2)]
        self.own.stop()
        for each in asked:
            self.failureResultOf(each, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_resolve(self) -> None:
        """A name's addresses are those of the family that was asked for."""
        four = self.own.resolve(NAME, 4, self.queries)
        six = self.own.resolve(NAME, 6, self.queries)
        self.assertEqual(self.queries.asked[1].wire, ask(NAME, AAAA, ident=0))
        self.queries.answer(answer(ask(NAME), [record(A, 9, DATA4)]), 0)
        self.queries.answer(answer(ask(NAME, AAAA), [record(AAAA, 9, DATA6)]), 1)
        self.assertEqual(self.successResultOf(four), [FOUR])
        self.assertEqual(self.successResultOf(six), [SIX])

    def test_notDialled(self) -> None:
        """Addresses of this machine, its link or the gateway are none that a server can have."""
        found = self.own.resolve(NAME, 4, self.queries)
        bad = [b"\x7f\0\0\1", b"\xa9\xfe\xa9\xfe", b"\xc6\x12\0\1"]
        self.queries.answer(answer(ask(NAME), [record(A, 9, each) for each in bad]))
        self.assertEqual(self.successResultOf(found), [])

    def test_unresolved(self) -> None:
        """A denial is an empty list; no answer, and an error, say what they are."""
        found = self.own.resolve(NAME, 4, self.queries)
        self.queries.answer(answer(ask(NAME), [], flags=0x8183))
        self.assertEqual(self.successResultOf(found), [])
        found = self.own.resolve(NAME, 4, self.queries)
        self.queries.answer(answer(ask(NAME), [], flags=0x8182))
        self.assertEqual(str(self.failureResultOf(found, OwnLookupError).value), "DNS error 2")
        self.queries.error = OSError("no route")
        found = self.own.resolve(NAME, 4, self.queries)
        error = self.failureResultOf(found, OwnLookupError).value
        self.assertEqual(str(error), "no DNS server answers")


class ServerAddressesTests(SynchronousTestCase):
    """Tests for L{ServerAddresses}."""

    def setUp(self) -> None:
        """A server that is given by name."""
        self.clock = Clock()
        self.asked: list[tuple[str, int]] = []
        self.answers: list[Deferred[list[str]]] = []
        self.addresses = self.make(DnsServer("tls", NAME, 853))

    def make(self, server: DnsServer) -> ServerAddresses:
        """The addresses of a server."""
        return ServerAddresses(server, self.lookUp, self.clock)

    def lookUp(self, name: str, family: int) -> Deferred[list[str]]:
        """Note what is asked for."""
        self.asked.append((name, family))
        self.answers.append(Deferred())
        return self.answers[-1]

    def answer(self, four: list[str] | Exception, six: list[str] | Exception) -> None:
        """Answer the last two questions."""
        for found, result in zip(self.answers[-2:], (four, six), strict=True):
            if isinstance(result, Exception):
                found.errback(result)
            else:
                found.callback(result)

    def test_known(self) -> None:
        """A server whose address is given is never looked up, however much time passes."""
        for server, expected in (
            (DnsServer("tls", FOUR, 853), [FOUR]),
            (DnsServer("https", SIX, 443, "/dns-query"), [SIX]),
            (DnsServer("tls", NAME, 853, addresses=(SIX, FOUR)), [SIX, FOUR]),
        ):
            addresses = self.make(server)
            addresses.noneReached()
            addresses.forget()
            self.clock.advance(ADDRESS_AGE * 2)
            self.assertEqual(self.successResultOf(addresses.get()), expected)
        self.assertEqual(self.asked, [])

    def test_both(self) -> None:
        """Both families are asked for at once, and IPv4 comes first, whichever answers first."""
        found = self.addresses.get()
        self.assertEqual(self.asked, [(NAME, 4), (NAME, 6)])
        self.answers[1].callback([SIX])
        self.assertNoResult(found)
        self.answers[0].callback([FOUR])
        self.assertEqual(self.successResultOf(found), [FOUR, SIX])

    def test_one(self) -> None:
        """One family is enough, though the other one's look-up has failed."""
        for four, six, expected in (
            ([], [SIX], [SIX]),
            (OwnLookupError("DNS error 2"), [SIX], [SIX]),
            ([FOUR], OwnLookupError("DNS error 2"), [FOUR]),
        ):
            addresses = self.make(DnsServer("tls", NAME, 853))
            found = addresses.get()
            self.answer(four, six)
            self.assertEqual(self.successResultOf(found), expected)

    def test_eight(self) -> None:
        """At most four addresses of each family are to be tried."""
        found = self.addresses.get()
        self.answer([f"192.0.2.{n}" for n in range(9)], [f"2001:db8::{n}" for n in range(1, 9)])
        got = self.successResultOf(found)
        self.assertEqual((len(got), got[3:5]), (8, ["192.0.2.3", "2001:db8::1"]))

    def test_shared(self) -> None:
        """Those who ask meanwhile share one look-up; one that gives up takes it from nobody."""
        first, second, third = (self.addresses.get() for _ in range(3))
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(len(self.asked), 2)
        self.answer([FOUR], [])
        self.assertEqual(self.successResultOf(second), [FOUR])
        self.assertEqual(self.successResultOf(third), [FOUR])

    def test_allGiveUp(self) -> None:
        """A look-up for which nobody waits any more serves whoever comes next."""
        self.addresses.get().addErrback(lambda _: None).cancel()
        found = self.addresses.get()
        self.assertEqual(len(self.asked), 2)
        self.answer([FOUR], [])
        self.assertEqual(self.successResultOf(found), [FOUR])

    def test_age(self) -> None:
        """Addresses are good for a minute."""
        self.addresses.get()
        self.answer([FOUR], [])
        self.clock.advance(ADDRESS_AGE - 1)
        self.assertEqual(self.successResultOf(self.addresses.get()), [FOUR])
        self.clock.advance(1)
        self.assertNoResult(self.addresses.get())
        self.assertEqual(len(self.asked), 4)

    def test_noneReached(self) -> None:
        """If none could be reached, they are looked up again after five seconds, not at once."""
        self.addresses.get()
        self.answer([FOUR], [])
        self.addresses.noneReached()
        self.clock.advance(UNREACHED_AGE - 1)
        self.addresses.noneReached()
        self.assertEqual(self.successResultOf(self.addresses.get()), [FOUR])
        self.clock.advance(1)
        self.assertNoResult(self.addresses.get())

    def test_reached(self) -> None:
        """The address that was reached is tried first from then on."""
        self.addresses.get()
        self.answer([FOUR, "192.0.2.54"], [SIX])
        self.addresses.reached(SIX)
        self.addresses.reached("192.0.2.99")
        self.assertEqual(self.successResultOf(self.addresses.get()), [SIX, FOUR, "192.0.2.54"])

    def test_reachedBefore(self) -> None:
        """It is so also once the name has been looked up again, but not in another network."""
        self.addresses.get()
        self.answer([FOUR], [SIX])
        self.addresses.reached(SIX)
        self.clock.advance(ADDRESS_AGE)
        found = self.addresses.get()
        self.answer([FOUR], [SIX])
        self.assertEqual(self.successResultOf(found), [SIX, FOUR])
        self.addresses.forget()
        found = self.addresses.get()
        self.answer([FOUR], [SIX])
        self.assertEqual(self.successResultOf(found), [FOUR, SIX])

    def test_stillKnown(self) -> None:
        """While nobody can look the name up again, the addresses of before are good, unless the
        name has none any more."""
        self.addresses.get()
        self.answer([FOUR], [])
        for _ in range(2):
            self.clock.advance(ADDRESS_AGE)
            found = self.addresses.get()
            self.answer(OwnLookupError("no DNS server answers"), OwnLookupError("DNS error 2"))
            self.assertEqual(self.successResultOf(found), [FOUR])
        self.clock.advance(UNREACHED_AGE)
        found = self.addresses.get()
        self.answer([], [])
        self.failureResultOf(found, AddressError)

    def test_forget(self) -> None:
        """In another network the name is looked up again, and no address of before is good."""
        self.addresses.get()
        self.answer([FOUR], [])
        self.addresses.forget()
        found = self.addresses.get()
        self.assertNoResult(found)
        self.answer([], OwnLookupError("no DNS server answers"))
        self.failureResultOf(found, AddressError)

    def test_forgetMeanwhile(self) -> None:
        """What was asked for in another network is not kept."""
        self.addresses.get()
        self.addresses.forget()
        self.answer([FOUR], [])
        self.assertNoResult(self.addresses.get())

    def test_failed(self) -> None:
        """The error says whose name it is, why, and what to write; it is not kept."""
        for four, six, why in (
            ([], [], "it has no address"),
            (OwnLookupError("DNS error 2"), [], "DNS error 2"),
            ([], OwnLookupError("no DNS server answers"), "no DNS server answers"),
        ):
            found = self.addresses.get()
            again = self.addresses.get()
            self.answer(four, six)
            error = self.failureResultOf(found, AddressError).value
            self.failureResultOf(again, AddressError)
            self.assertEqual(
                str(error),
                f"cannot be asked, because dns.example cannot be looked up ({why}); give its "
                "address, as in {server: 'tls://dns.example:853', address: 192.0.2.53}",
            )
        self.assertEqual(len(self.asked), 6)

    def test_bug(self) -> None:
        """Any other error is passed on as it is."""
        found = self.addresses.get()
        self.answer([], ZeroDivisionError())
        self.failureResultOf(found, ZeroDivisionError)
