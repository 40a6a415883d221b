"""Tests of L{nanotun.doctor.servers} and L{nanotun.doctor.question}."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.question import DnsQuestion, questionFor
from nanotun.doctor.servers import WAITS, ServerCheck, SystemCheck, SystemLook
from nanotun.errors import UpstreamError
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import INameServer
from nanotun.gateway.dns.message import PTR, A, Query
from nanotun.gateway.dns.nameservers import NameServers
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.interfaces import DnsServer
from nanotun.testing import FakeUpstream
from nanotun.upstream.datagramtrial import NS, RETRY, TRIES
from tests.unit.doctor.doctor_cases import CheckCase, settings
from tests.unit.doctor.peer_cases import ANSWER, QUESTION, PeerCase, withCode
from tests.unit.gateway.gateway_cases import FakeAttempt

SERVER = DnsServer("udp", "127.0.0.1", 53)


@implementer(INameServer)
class FakeServer:
    """
    A DNS server that the test answers for.

    @ivar asked: the C{answered} and C{failed} of each query.
    @ivar attempts: what each has returned.
    @ivar error: raised by each query, if set.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.tally = ServerTally(SERVER)
        self.asked: list[tuple[Any, Any]] = []
        self.attempts: list[FakeAttempt] = []
        self.error: Exception | None = None
        self.stopped = False

    def ask(
        self, wire: bytes, query: Query, overTCP: bool, answered: Any, failed: Any
    ) -> FakeAttempt:
        """See L{INameServer.ask}."""
        self.asked.append((answered, failed))
        self.wire = wire
        if self.error is not None:
            raise self.error
        self.attempts.append(FakeAttempt())
        return self.attempts[-1]

    def at(self, server: DnsServer) -> FakeServer:
        """See L{NameServers.at}."""
        return self

    def renew(self) -> None:
        """See L{INameServer.renew}."""

    def stop(self) -> None:
        """See L{INameServer.stop}."""
        self.stopped = True


class ServerCase(PeerCase):
    """What the tests of L{ServerCheck} share."""

    def begin(
        self,
        where: str = "",
        server: DnsServer = SERVER,
        error: Exception | None = None,
        ruled: bool = False,
    ) -> None:
        """Run the check of a server that is asked in some way."""
        self.server = FakeServer(where)
        self.server.error = error
        verifyObject(INameServer, self.server)
        servers = cast(NameServers, self.server)
        self.check = ServerCheck(server, QUESTION, lambda: servers, self.clock, ruled)
        verifyObject(ICheck, self.check)
        self.found: Deferred[list[Finding]] = cast(Any, self.check.run())

    def assertFound(self, level: Level, *words: str) -> None:
        """It has one finding, with this level and these words, and leaves nothing behind."""
        (one,) = self.successResultOf(self.found)
        self.assertSentences([one], self.check)
        self.assertEqual(one.level, level)
        for word in words:
            self.assertIn(word, f"{one.text} {one.cure}")
        self.assertTrue(self.server.stopped)
        self.assertTrue(all(each.cancelled for each in self.server.attempts))
        self.assertClean()


class AnswerTests(ServerCase):
    """Servers that are asked over UDP."""

    def test_answers(self) -> None:
        """A server that answers is fine, also the second time it is asked."""
        for where in ("", " through the proxy"):
            self.begin(where)
            self.server.asked[0][1]()
            self.clock.advance(RETRY)
            self.server.asked[1][0](ANSWER)
            self.server.asked[0][0](ANSWER)
            self.assertFound(Level.OK, f"The server 127.0.0.1:53 answers{where}.")

    def test_codes(self) -> None:
        """It is judged by what it answers to a name that it should know."""
        for rcode, level, words in (
            (3, Level.OK, "answers{}."),
            (2, Level.WARN, "answers{}, but cannot look up proxy.example (SERVFAIL)."),
            (5, Level.FAIL, "refuses queries{here} (REFUSED). Set dns to a server"),
            (1, Level.FAIL, "refuses queries{here} (FORMERR)."),
            (11, Level.FAIL, "refuses queries{here} (response code 11)."),
        ):
            for where in ("", " through the proxy"):
                self.begin(where)
                self.assertEqual(self.server.wire, QUESTION.query(0))
                self.server.asked.pop()[0](withCode(rcode))
                self.assertFound(level, words.format(where, here=where or " from this machine"))

    def test_silent(self) -> None:
        """One that never does is a failure, with what to do, by its way."""
        for where, own, words in (
            ("", "", ("does not answer, and the relay asks it past the proxy", "dnsVia: proxy")),
            ("", "direct", ("dnsMode: fake-ip or give it via: proxy.",)),
            (" through the proxy", "", ("does not answer through the proxy.", "dnsVia: direct.")),
            (" through office", "office", ("answer through office.", "or give it via: direct.")),
        ):
            self.begin(where, SERVER._replace(via=own))
            self.exhaust()
            self.assertEqual(len(self.server.asked), TRIES)
            self.assertFound(Level.FAIL, *words)

    def test_ruled(self) -> None:
        """
        Of a server that only dnsRules name, nothing is said that is about dns, nor about fake-ip,
        which leaves such names alone.
        """
        for where, cure in (
            ("", "In dnsRules, name a server that this machine reaches; or give it via: proxy."),
            (
                " through the proxy",
                "In dnsRules, name a server that the proxy reaches, allow DNS there, or give it "
                "via: direct.",
            ),
        ):
            self.begin(where, ruled=True)
            self.exhaust()
            self.assertFound(Level.FAIL, cure)
        for rcode, cure in (
            (2, "Look at that server, or name another one in dnsRules."),
            (5, "In dnsRules, name a server that looks names up for whoever asks from there."),
        ):
            self.begin(ruled=True)
            self.server.asked.pop()[0](withCode(rcode))
            self.assertFound(Level.WARN if rcode == 2 else Level.FAIL, cure)
        self.begin(ruled=True, error=OSError(errno.ENETUNREACH, "Network is unreachable"))
        self.assertFound(Level.FAIL, "name one in dnsRules that this machine reaches.")
        self.begin(ruled=True)
        self.server.tally.trouble = "The DNS server X breaks TLS (no cipher)."
        self.server.asked[0][1]()
        self.assertFound(Level.FAIL, "or name another one in dnsRules.")

    def test_awaited(self) -> None:
        """What a proxy without UDP carries by TCP is not asked a second time."""
        self.begin(" through the proxy")
        self.server.attempts[0].again = False
        self.clock.advance(RETRY)
        self.assertEqual(len(self.server.asked), 1)
        self.server.asked[0][0](ANSWER)
        self.assertFound(Level.OK, "answers")

    def test_forbidden(self) -> None:
        """If the query is not let out, the finding says what the log would."""
        self.begin(" through the proxy")
        self.server.tally.trouble = "The proxy forbids it; allow it."
        self.server.asked[0][1]()
        self.assertFound(Level.FAIL, "The proxy forbids it; allow it.")

    def test_raises(self) -> None:
        """A query that cannot be sent at all is a failure with its reason."""
        for error, words in (
            (OSError(errno.ENETUNREACH, "Network is unreachable"), "reached (Network is unreach"),
            (UpstreamError("No sockets; be root."), "No sockets; be root."),
        ):
            self.begin(error=error)
            self.assertFound(Level.FAIL, words)

    def test_cancelled(self) -> None:
        """A check that is cancelled leaves nothing behind."""
        self.begin()
        self.found.cancel()
        self.failureResultOf(self.found)
        self.assertTrue(self.server.stopped)
        self.assertClean()


class StreamTests(ServerCase):
    """Servers that are asked on connections."""

    TLS = DnsServer("tls", "127.0.0.1", 853)

    def test_waits(self) -> None:
        """Such a server is asked once, and has the time for a handshake."""
        self.begin(server=self.TLS)
        self.clock.pump([RETRY] * (WAITS - 1))
        self.assertEqual(len(self.server.asked), 1)
        self.server.asked[0][0](ANSWER)
        self.assertFound(Level.OK, "The server tls://127.0.0.1:853 answers.")

    def test_layers(self) -> None:
        """What is wrong is said at once; a sentence without a cure gets one."""
        for trouble, cure in (
            ("The DNS server X breaks TLS (no cipher).", "Look at that server, or set dns"),
            ("The DNS server X has expired; set the clock.", "set the clock. "),
        ):
            self.begin(server=self.TLS)
            self.server.tally.trouble = trouble
            self.server.asked[0][1]()
            self.assertFound(Level.FAIL, trouble, cure)

    def test_silent(self) -> None:
        """One that never answers is a failure."""
        self.begin(server=self.TLS)
        self.clock.pump([RETRY] * WAITS)
        self.assertFound(Level.FAIL, "The server tls://127.0.0.1:853 does not answer")

    def test_closed(self) -> None:
        """One that fails without any reason is not waited for."""
        self.begin(server=self.TLS)
        self.server.asked[0][1]()
        self.assertFound(Level.FAIL, "does not answer")


class RealServerTests(PeerCase):
    """L{ServerCheck} with what the relay asks servers by."""

    def test_direct(self) -> None:
        """A server that is asked past the proxy gets the question from a socket, and is heard."""

        def makeDatagram(family: int) -> socket.socket:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            return sock

        server = DnsServer("udp", *self.peer.getsockname())
        wanted = settings("--dns", str(server))

        def make() -> NameServers:
            return NameServers(
                self.clock,
                wanted,
                {"direct": FakeUpstream()}.__getitem__,
                {},
                Counters(),
                {},
                makeDatagram,
                lambda sentence: None,
            )

        check = ServerCheck(server, QUESTION, lambda: succeed(make()), self.clock)
        found: Deferred[list[Finding]] = cast(Any, check.run())
        heard, source = self.peer.recvfrom(1000)
        self.assertEqual(heard[2:], QUESTION.query(0)[2:])
        self.peer.sendto(heard[:2] + b"\x81\x80" + heard[4:], source)
        for reader in list(self.clock.readers):
            reader.doRead()
        (one,) = self.successResultOf(found)
        self.assertEqual((one.level, one.text), (Level.OK, f"The server {server} answers."))
        self.assertClean()


class FakeSystem:
    """
    The servers of a machine, which looks for them in a thread.

    @ivar known: those of the moment.
    """

    def __init__(self, call: Callable[[Callable[[], Any]], Deferred[Any]]) -> None:
        self.known: tuple[DnsServer, ...] = ()
        self.stopped = False
        self._call = call

    def start(self) -> None:
        """Look."""
        self._call(lambda: 0).addCallback(self._looked)

    def stop(self) -> None:
        """Look no more."""
        self.stopped = True

    def __call__(self) -> tuple[DnsServer, ...]:
        return self.known

    def _looked(self, _: object) -> None:
        office = DnsServer("udp", "10.0.0.53", 53)
        self.known = (office._replace(domains=("corp.example",)), office, SERVER)


class SystemTests(CheckCase):
    """L{SystemCheck} and L{SystemLook}."""

    def setUp(self) -> None:
        super().setUp()
        self.threads: list[Deferred[Any]] = []
        self.made: list[FakeSystem] = []
        self.checked: list[DnsServer] = []

    def look(self) -> SystemLook:
        """What looks, in a thread that the test ends."""

        def inThread(function: Callable[[], Any]) -> Deferred[Any]:
            self.threads.append(Deferred())
            return self.threads[-1]

        def make(call: Any) -> Any:
            self.made.append(FakeSystem(call))
            return self.made[-1]

        return SystemLook(make, inThread)

    def one(self, server: DnsServer) -> ICheck:
        """The check of one server."""
        self.checked.append(server)
        fine = [Finding("DNS", Level.OK, f"{server} is fine.")]
        return cast(Any, type("Check", (), {"run": lambda self: fine})())

    def test_stands(self) -> None:
        """It says what system stands for, and asks each of those servers once."""
        check = SystemCheck(self.look(), self.one)
        verifyObject(ICheck, check)
        found: Deferred[list[Finding]] = cast(Any, check.run())
        self.assertNoResult(found)
        self.threads[0].callback(None)
        findings = self.successResultOf(found)
        self.assertSentences(findings, check)
        self.assertEqual(
            [(each.level, each.text) for each in findings],
            [
                (
                    Level.INFO,
                    "system stands for 10.0.0.53:53 (corp.example), 10.0.0.53:53 and 127.0.0.1:53.",
                ),
                (Level.OK, "10.0.0.53:53 is fine."),
                (Level.OK, "127.0.0.1:53 is fine."),
            ],
        )

    def test_once(self) -> None:
        """However many want to know, there is one look, and nothing goes on after it."""
        look = self.look()
        self.assertEqual(look.servers(), ())
        both = [look.get() for _ in range(2)]
        self.assertFalse(self.made[0].stopped)
        self.threads[0].callback(None)
        for each in (*both, look.get()):
            self.assertEqual(len(self.successResultOf(each)), 3)
        self.assertEqual((len(self.made), len(look.servers())), (1, 3))
        self.assertTrue(self.made[0].stopped)

    def test_none(self) -> None:
        """A machine without servers is a failure."""
        self.patch(FakeSystem, "_looked", lambda self, _: None)
        check = SystemCheck(self.look(), self.one)
        found: Deferred[list[Finding]] = cast(Any, check.run())
        self.threads[0].callback(None)
        (one,) = self.successResultOf(found)
        self.assertSentences([one], check)
        self.assertEqual(one.level, Level.FAIL)


class QuestionTests(SynchronousTestCase):
    """L{questionFor}."""

    def test_name(self) -> None:
        """The first name that DNS servers are asked for is the question."""
        for hosts, name in (
            (["www.example.org.", "proxy.example"], "www.example.org"),
            (["192.0.2.1", "2001:db8::1", "proxy.example"], "proxy.example"),
            (["localhost", "proxy", "printer.local", "a.localhost", "", "b.example"], "b.example"),
            (["b\xfccher.example"], "xn--bcher-kva.example"),
            (["a..example", "x" * 64 + ".example", ("x" * 60 + ".") * 4 + "long.example"], ""),
            ([], ""),
        ):
            expected = (name, A) if name else ("53.2.0.192.in-addr.arpa", PTR)
            self.assertEqual(questionFor(hosts, "192.0.2.53"), DnsQuestion(*expected), hosts)

    def test_address(self) -> None:
        """Without a name it is the server's own address, also one with a zone."""
        question = questionFor([], "fe80::1%eth0")
        self.assertEqual(question.name, "1." + "0." * 28 + "8.e.f.ip6.arpa")

    def test_root(self) -> None:
        """Without either it is the root, whose servers any server knows."""
        question = questionFor(["dns"])
        self.assertEqual(question, DnsQuestion(".", NS))
        self.assertEqual(question.query(7)[12:], b"\0\0\2\0\1")
