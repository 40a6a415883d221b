"""Tests of L{nanotun.doctor.servers.ProxiedDnsCheck}."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.servers import ProxiedDnsCheck
from nanotun.errors import UpstreamError
from nanotun.gateway.dns.interfaces import INameServer
from nanotun.gateway.dns.message import Query
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.interfaces import DnsServer
from nanotun.upstream.datagramtrial import RETRY, TRIES
from tests.unit.doctor.peer_cases import ANSWER, QUESTION, PeerCase, withCode
from tests.unit.gateway.gateway_cases import FakeAttempt

SERVER = DnsServer("udp", "127.0.0.1", 53)


@implementer(INameServer)
class FakeServer:
    """
    A DNS server that the test answers for.

    @ivar asked: the C{answered} and C{failed} of each query.
    @ivar error: raised by each query, if set.
    """

    where = " through the proxy"

    def __init__(self) -> None:
        self.tally = ServerTally(SERVER)
        self.asked: list[tuple[Any, Any]] = []
        self.error: Exception | None = None
        self.stopped = False
        self.report: Any = None

    def ask(
        self, wire: bytes, query: Query, overTCP: bool, answered: Any, failed: Any
    ) -> FakeAttempt:
        """See L{INameServer.ask}."""
        self.asked.append((answered, failed))
        self.wire = wire
        if self.error is not None:
            raise self.error
        return FakeAttempt()

    def at(self, server: DnsServer) -> FakeServer:
        """See L{NameServers.at}."""
        return self

    def renew(self) -> None:
        """See L{INameServer.renew}."""

    def stop(self) -> None:
        """See L{INameServer.stop}."""
        self.stopped = True


class ProxiedDnsTests(PeerCase):
    """L{ProxiedDnsCheck}."""

    def setUp(self) -> None:
        """Run the check."""
        super().setUp()
        self.server = FakeServer()
        verifyObject(INameServer, self.server)

        def make(report: Any) -> Any:
            self.server.report = report
            return self.server

        self.check = ProxiedDnsCheck(SERVER, QUESTION, make, self.clock)
        verifyObject(ICheck, self.check)

    def begin(self) -> None:
        """Run the check."""
        self.found: Deferred[list[Finding]] = cast(Any, self.check.run())

    def assertFound(self, level: Level, *words: str) -> None:
        """It has one finding, with this level and these words, and leaves nothing behind."""
        (one,) = self.successResultOf(self.found)
        self.assertSentences([one], self.check)
        self.assertEqual(one.level, level)
        for word in words:
            self.assertIn(word, f"{one.text} {one.cure}")
        self.assertTrue(self.server.stopped)
        self.assertClean()

    def test_answers(self) -> None:
        """A server that answers through the proxy is fine, also the second time it is asked."""
        self.begin()
        self.server.asked[0][1]()
        self.clock.advance(RETRY)
        self.server.asked[1][0](ANSWER)
        self.server.asked[0][0](ANSWER)
        self.assertFound(Level.OK, "answers through the proxy")

    def test_codes(self) -> None:
        """It is judged by what it answers to a name that it should know."""
        for rcode, level, words in (
            (3, Level.OK, "answers through the proxy."),
            (2, Level.WARN, "answers through the proxy, but cannot look up proxy.example (SERV"),
            (5, Level.FAIL, "refuses queries through the proxy (REFUSED)."),
        ):
            self.begin()
            self.assertEqual(self.server.wire, QUESTION.query(0))
            self.server.asked.pop()[0](withCode(rcode))
            self.assertFound(level, words)

    def test_silent(self) -> None:
        """One that never does is a failure, with what to do."""
        self.begin()
        self.exhaust()
        self.assertEqual(len(self.server.asked), TRIES)
        self.assertFound(Level.FAIL, "does not answer through the proxy", "dnsVia: direct")

    def test_forbidden(self) -> None:
        """If the proxy does not let the query out, the finding says what the log would."""
        self.begin()
        self.server.report("The proxy forbids it; allow it.")
        self.server.asked[0][1]()
        self.assertFound(Level.FAIL, "The proxy forbids it; allow it.")

    def test_cancelled(self) -> None:
        """A check that is cancelled leaves nothing behind."""
        self.begin()
        self.found.cancel()
        self.failureResultOf(self.found)
        self.assertTrue(self.server.stopped)
        self.assertClean()

    def test_raises(self) -> None:
        """A query that cannot be sent at all is a failure with its sentence."""
        self.server.error = UpstreamError("No.")
        self.begin()
        self.server.report("No way; make one.")
        self.clock.advance(RETRY)
        self.assertFound(Level.FAIL, "No way; make one.")
