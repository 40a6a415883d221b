"""
Tests for L{nanotun.gateway.fakeip.existence}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import UpstreamError
from nanotun.gateway.dns.message import NXDOMAIN, REFUSED, SERVFAIL
from nanotun.gateway.fakeip import existence
from nanotun.gateway.fakeip.existence import (
    ABSENT_LEAST,
    ABSENT_MOST,
    EXISTS_AGE,
    LATE_LIMIT,
    REST,
    WAIT,
    Existence,
)
from tests.unit.gateway.gateway_cases import answer, ask, soa


def reply(name: str, rcode: int = 0, seconds: int = 60) -> bytes:
    """What a server says about a name."""
    if rcode == 0:
        return answer(ask(name))
    return answer(ask(name), [], [soa(seconds, seconds)], flags=0x8180 | rcode)


class ExistenceTests(SynchronousTestCase):
    """Tests for L{Existence}."""

    def setUp(self) -> None:
        """With servers that the test answers for."""
        self.clock = Clock()
        self.asked: list[tuple[str, Deferred[bytes | None]]] = []
        self.gone: list[str] = []
        self.logged: list[str] = []
        log = Logger(observer=lambda event: self.logged.append(formatEvent(event)))  # type: ignore[arg-type]
        self.patch(Existence, "_log", log)
        self.existence = Existence(self.clock, self.gone.append)
        self.existence.configure(self.ask, lambda name: not name.endswith(".office"))
        self.addCleanup(self.finish)

    def finish(self) -> None:
        """Nothing is left when it has stopped."""
        self.existence.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def ask(self, name: str) -> Deferred[bytes | None]:
        """Ask the servers."""
        self.asked.append((name, Deferred()))
        return self.asked[-1][1]

    def names(self) -> list[str]:
        """What the servers were asked."""
        return [name for name, _ in self.asked]

    def tell(self, message: bytes | None) -> None:
        """The servers answer the latest question."""
        self.asked[-1][1].callback(message)

    def find(self, name: str, message: bytes | None) -> bool:
        """Ask for a name to which the servers have this answer."""
        found = self.existence.find(name)
        self.tell(message)
        return self.successResultOf(found)

    def test_absent(self) -> None:
        """A name that does not exist is asked for once in the time that its zone says."""
        self.assertIsNone(self.existence.known("a.example"))
        self.assertFalse(self.find("a.example", reply("a.example", NXDOMAIN)))
        self.clock.advance(59)
        self.assertIs(self.existence.known("a.example"), False)
        self.assertEqual((self.names(), self.gone), (["a.example"], ["a.example"]))
        self.clock.advance(1)
        self.assertIsNone(self.existence.known("a.example"))
        self.assertTrue(self.existence.wasAbsent("a.example"))

    def test_bounds(self) -> None:
        """A name is absent for ten seconds at least, and for five minutes at most."""
        for number, (denial, seconds) in enumerate((
            (reply("n0.example", NXDOMAIN, 1), ABSENT_LEAST),
            (reply("n1.example", NXDOMAIN, 86400), ABSENT_MOST),
            (answer(ask("n2.example"), [], flags=0x8183), ABSENT_LEAST),
        )):  # fmt: skip
            name = f"n{number}.example"
            self.find(name, denial)
            self.clock.advance(seconds - 1)
            self.assertIs(self.existence.known(name), False)
            self.clock.advance(1)
            self.assertIsNone(self.existence.known(name))

    def test_exists(self) -> None:
        """A name that exists is asked for once an hour, also if it has no IPv4 address."""
        self.assertTrue(self.find("a.example", answer(ask("a.example"), [], [soa(60, 60)])))
        self.clock.advance(EXISTS_AGE - 1)
        self.assertIs(self.existence.known("a.example"), True)
        self.clock.advance(1)
        self.assertIsNone(self.existence.known("a.example"))
        self.assertFalse(self.existence.wasAbsent("a.example"))

    def test_errors(self) -> None:
        """A server's error says nothing about the name, and is not remembered."""
        for rcode in (SERVFAIL, REFUSED):
            self.assertTrue(self.find("a.example", reply("a.example", rcode)))
            self.assertIsNone(self.existence.known("a.example"))
        self.assertEqual((len(self.asked), self.logged), (2, []))

    def test_shared(self) -> None:
        """All who wait for a name share one question."""
        found = [self.existence.find("a.example") for _ in range(2)]
        self.existence.refresh("a.example")
        self.tell(reply("a.example", NXDOMAIN))
        self.assertEqual([self.successResultOf(each) for each in found], [False, False])
        self.assertEqual(len(self.asked), 1)

    def test_late(self) -> None:
        """Nobody waits longer than 1.5 s, and an answer that comes later counts all the same."""
        found = self.existence.find("a.example")
        self.clock.advance(WAIT - 0.1)
        self.assertNoResult(found)
        self.clock.advance(0.1)
        self.assertTrue(self.successResultOf(found))
        self.tell(reply("a.example", NXDOMAIN))
        self.assertEqual((self.existence.known("a.example"), self.gone), (False, ["a.example"]))
        self.assertTrue(self.existence.asks)

    def test_silence(self) -> None:
        """After an answer from nobody no name waits and none is asked for a minute, and one
        line says so."""
        other = self.existence.find("other.example")
        self.assertTrue(self.find("a.example", None))
        self.assertTrue(self.successResultOf(other))
        self.asked[0][1].callback(None)
        self.clock.advance(REST - 1)
        self.assertIs(self.existence.known("b.example"), True)
        self.assertFalse(self.existence.mayAsk("b.example"))
        self.clock.advance(1)
        self.assertIsNone(self.existence.known("b.example"))
        self.find("b.example", None)
        (line,) = self.logged
        self.assertIn("No server of dns answers through the proxy in time", line)
        # Another trouble is another line.
        self.clock.advance(REST)
        self.find("b.example", reply("b.example"))
        self.find("c.example", None)
        self.assertEqual(self.logged, [line, line])

    def test_doubted(self) -> None:
        """After such a minute one name at a time is asked for, and nobody waits, until an answer
        has come in time, or the network is another one."""
        self.existence.configure(self.ask, everyServer=True)
        for again in (self.existence.clear, lambda: self.tell(reply("b.example"))):
            self.find("a.example", None)
            self.clock.advance(REST)
            self.asked.clear()
            for text in ("b.example", "c.example"):
                self.assertIsNone(self.existence.known(text))
                self.assertTrue(self.successResultOf(self.existence.find(text)))
                self.existence.refresh(text)
            self.assertFalse(self.existence.mayRelay("b.example"))
            self.assertEqual(self.names(), ["b.example"])
            again()
            self.assertTrue(self.existence.mayRelay("c.example"))
            self.assertFalse(self.find("d.example", reply("d.example", NXDOMAIN)))

    def test_slow(self) -> None:
        """After three late answers in a row no name waits for a minute."""
        for number in range(LATE_LIMIT):
            self.assertTrue(self.existence.asks)
            self.existence.refresh(f"n{number}.example")
            self.clock.advance(WAIT)
            self.tell(reply(f"n{number}.example"))
        self.assertFalse(self.existence.asks)
        self.assertEqual(len(self.logged), 1)
        # What is known still counts.
        self.assertIs(self.existence.known("n0.example"), True)

    def test_someLate(self) -> None:
        """Late answers do not count if others come in time."""
        for number in range(3 * LATE_LIMIT):
            self.existence.refresh(f"n{number}.example")
            self.clock.advance(WAIT if number % LATE_LIMIT else 0)
            self.tell(reply(f"n{number}.example"))
        self.assertTrue(self.existence.asks)

    def test_elsewhere(self) -> None:
        """A name that goes another way is not asked for."""
        self.assertIs(self.existence.known("wiki.office"), True)
        self.assertFalse(self.existence.mayAsk("wiki.office"))
        self.assertTrue(self.existence.mayAsk("wiki.example"))

    def test_configure(self) -> None:
        """Another configuration asks anew, ends a rest, and keeps nobody waiting."""
        self.find("a.example", reply("a.example", NXDOMAIN))
        waiting = self.existence.find("b.example")
        self.existence.configure(self.ask)
        self.assertTrue(self.successResultOf(waiting))
        self.assertTrue(self.asked[-1][1].called)
        self.assertEqual(self.logged, [])
        self.assertIsNone(self.existence.known("a.example"))
        self.assertFalse(self.existence.wasAbsent("a.example"))
        self.find("c.example", None)
        self.assertFalse(self.existence.asks)
        self.existence.clear()
        self.assertTrue(self.existence.asks)
        self.existence.configure(None)
        self.assertIs(self.existence.known("a.example"), True)
        self.assertFalse(self.existence.asks)

    def test_cancelled(self) -> None:
        """One who waits no more leaves the question to the others."""
        leaver, stayer = self.existence.find("a.example"), self.existence.find("a.example")
        leaver.cancel()
        self.failureResultOf(leaver, CancelledError)
        self.tell(reply("a.example", NXDOMAIN))
        self.assertFalse(self.successResultOf(stayer))

    def test_atOnce(self) -> None:
        """Answers may be there at once."""
        self.existence.configure(lambda name: succeed(reply(name, NXDOMAIN)))
        self.assertFalse(self.successResultOf(self.existence.find("a.example")))
        self.existence.configure(lambda name: succeed(None))
        self.assertTrue(self.successResultOf(self.existence.find("a.example")))

    def test_limited(self) -> None:
        """If too many names are asked for, further ones count as existing, without a rest."""
        self.patch(existence, "ASKED_LIMIT", 2)
        waiting = [self.existence.find(f"n{number}.example") for number in range(2)]
        self.assertTrue(self.successResultOf(self.existence.find("new.example")))
        self.assertEqual(self.names(), ["n0.example", "n1.example"])
        self.asked[0][1].errback(UpstreamError("too many"))
        self.assertTrue(self.successResultOf(waiting[0]))
        self.assertTrue(self.existence.asks)

    def test_bounded(self) -> None:
        """As many names are remembered as there is room for, those used last."""
        self.patch(existence, "NAMES_LIMIT", 2)
        for text in ("a.example", "b.example"):
            self.find(text, reply(text))
        self.existence.known("a.example")
        self.find("c.example", reply("c.example"))
        self.assertIs(self.existence.known("a.example"), True)
        self.assertIsNone(self.existence.known("b.example"))
