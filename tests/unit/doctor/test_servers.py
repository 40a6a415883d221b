"""Tests of L{nanotun.doctor.servers} and L{nanotun.doctor.question}."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.question import DnsQuestion, questionFor
from nanotun.doctor.servers import DnsCheck
from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint
from nanotun.gateway.dns.message import PTR, A
from tests.unit.doctor.peer_cases import ANSWER, IDENT, QUESTION, PeerCase, withCode


class DnsTests(PeerCase):
    """L{DnsCheck}."""

    def begin(
        self, make: Callable[[int], socket.socket] | None = None, host: str = "127.0.0.1"
    ) -> Deferred[list[Finding]]:
        """Run the check."""

        def makeDatagram(family: int) -> socket.socket:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            return sock

        server = Endpoint(host, self.peer.getsockname()[1])
        self.check = DnsCheck(server, QUESTION, self.clock, make or makeDatagram, lambda: IDENT)
        verifyObject(ICheck, self.check)
        return cast(Any, self.check.run())

    def assertFound(self, found: Deferred[list[Finding]], level: Level, *words: str) -> None:
        """The check has one finding, with this level and these words."""
        (one,) = self.successResultOf(found)
        self.assertSentences([one], self.check)
        self.assertEqual(one.level, level)
        for word in words:
            self.assertIn(word, f"{one.text} {one.cure}")
        self.assertClean()

    def test_answers(self) -> None:
        """A server that answers is fine."""
        found = self.begin()
        self.assertEqual(self.answer(ANSWER), QUESTION.query(IDENT))
        self.assertFound(found, Level.OK, "answers.")

    def test_codes(self) -> None:
        """A name that does not exist is an answer, an error is none; each is called by its name."""
        for rcode, level, words in (
            (3, Level.OK, "answers."),
            (2, Level.WARN, "answers, but cannot look up proxy.example (SERVFAIL)."),
            (5, Level.FAIL, "refuses queries from this machine (REFUSED). Set dns to a server"),
            (1, Level.FAIL, "refuses queries from this machine (FORMERR)."),
            (11, Level.FAIL, "refuses queries from this machine (response code 11)."),
        ):
            found = self.begin()
            self.answer(withCode(rcode))
            self.assertFound(found, level, words)

    def test_silent(self) -> None:
        """A server that does not answer is a failure."""
        found = self.begin()
        self.exhaust()
        self.assertFound(found, Level.FAIL, "does not answer", "past the proxy")

    def test_unreachable(self) -> None:
        """A server that cannot be reached is a failure with the kernel's reason."""

        class Unroutable(socket.socket):
            def connect(self, address: object) -> None:
                raise OSError(errno.ENETUNREACH, "Network is unreachable")

        found = self.begin(lambda family: Unroutable(family, socket.SOCK_DGRAM))
        self.assertFound(found, Level.FAIL, "cannot be reached (Network is unreachable)")

    def test_noSocket(self) -> None:
        """If no socket can be made, its error becomes a failure."""

        def make(family: int) -> socket.socket:
            raise UpstreamError("No sockets; be root.")

        self.assertFound(self.begin(make), Level.FAIL, "No sockets; be root.")


class QuestionTests(SynchronousTestCase):
    """L{questionFor}."""

    def test_name(self) -> None:
        """The first name that DNS servers are asked for is the question."""
        server = Endpoint("192.0.2.53", 53)
        for hosts, name in (
            (["www.example.org.", "proxy.example"], "www.example.org"),
            (["192.0.2.1", "2001:db8::1", "proxy.example"], "proxy.example"),
            (["localhost", "proxy", "printer.local", "a.localhost", "", "b.example"], "b.example"),
            (["b\xfccher.example"], "xn--bcher-kva.example"),
            (["a..example", "x" * 64 + ".example", ("x" * 60 + ".") * 4 + "long.example"], ""),
            ([], ""),
        ):
            expected = (name, A) if name else ("53.2.0.192.in-addr.arpa", PTR)
            self.assertEqual(questionFor(hosts, server), DnsQuestion(*expected), hosts)

    def test_address(self) -> None:
        """Without a name it is the server's own address, also one with a zone."""
        question = questionFor([], Endpoint("fe80::1%eth0", 53))
        self.assertEqual(question.name, "1." + "0." * 28 + "8.e.f.ip6.arpa")
