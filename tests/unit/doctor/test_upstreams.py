"""Tests of L{nanotun.doctor.upstreams}, C{datagrams}, C{trial} and C{checks}."""

from __future__ import annotations

import errno
import socket
from typing import Any, cast

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.trial import TrialCheck
from nanotun.doctor.upstreams import NOWHERE, ProxyCheck
from nanotun.errors import (
    AuthenticationError,
    DatagramsUnsupported,
    DeviceError,
    NamesUnsupported,
    ProxyError,
    RoutingError,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import DatagramLeg, LegKind
from nanotun.testing import FakeControl, FakeUpstream, NamedFakeUpstream
from nanotun.upstream.datagramtrial import RETRY, TRIES, DatagramTrial, dnsQuery, isDnsAnswer
from tests.unit.doctor.doctor_cases import CheckCase, settings
from tests.unit.doctor.peer_cases import ANSWER, IDENT, QUESTION, SERVER, PeerCase, withCode


class DatagramTrialTests(PeerCase):
    """L{DatagramTrial}."""

    def begin(self) -> Deferred[bytes]:
        """Start to ask."""
        self.sock = self.client()
        self.trial = DatagramTrial(self.clock, self.sock, b"question", lambda data: data == b"yes")
        return self.trial.start()

    def test_answered(self) -> None:
        """The answer ends the trial; other datagrams are ignored."""
        done = self.begin()
        verifyObject(IReadDescriptor, self.trial)
        self.assertEqual(self.trial.logPrefix(), "datagrams")
        self.trial.doRead()
        self.assertEqual(self.answer(b"no"), b"question")
        self.assertNoResult(done)
        self.clock.advance(RETRY)
        self.answer(b"yes")
        self.assertEqual(self.successResultOf(done), b"yes")
        self.assertEqual(self.sock.fileno(), -1)
        self.assertClean()

    def test_silence(self) -> None:
        """Without an answer the trial asks a few times and then gives up."""
        done = self.begin()
        self.exhaust()
        self.failureResultOf(done, TimeoutError)
        for _ in range(TRIES):
            self.assertEqual(self.peer.recv(100), b"question")
        self.assertClean()

    def test_refused(self) -> None:
        """An error of the kernel ends the trial."""
        sock = self.client()
        self.peer.close()
        done = DatagramTrial(self.clock, sock, b"q", bool).start()
        (reader,) = self.clock.readers
        reader.doRead()
        self.failureResultOf(done, ConnectionRefusedError)
        self.assertClean()

    def test_cancelled(self) -> None:
        """A cancelled trial and a lost reader leave nothing behind."""
        done = self.begin()
        done.cancel()
        self.failureResultOf(done)
        self.assertClean()
        done = self.begin()
        self.trial.connectionLost(Failure(OSError(errno.EBADF, "x")))
        self.trial.connectionLost(Failure(OSError(errno.EBADF, "x")))
        self.failureResultOf(done, OSError)
        self.assertClean()

    def test_wire(self) -> None:
        """By default the root's NS are asked for; an answer has the query's ID and the QR bit."""
        self.assertEqual(dnsQuery(IDENT).hex(), "1234010000010000000000000000020001")
        self.assertEqual(
            dnsQuery(IDENT, b"a.example", 1).hex(),
            "12340100000100000000000001610765786" + "16d706c650000010001",
        )
        isAnswer = isDnsAnswer(IDENT)
        self.assertTrue(isAnswer(ANSWER))
        for wrong in (dnsQuery(IDENT), b"\0" + ANSWER, ANSWER[:11], b""):
            self.assertFalse(isAnswer(wrong))


class ProxyTests(PeerCase):
    """L{ProxyCheck}."""

    def setUp(self) -> None:
        """Make a proxy whose answers the test gives."""
        super().setUp()
        self.upstream = FakeUpstream("socks5://proxy:1080")

    def begin(
        self, target: Endpoint | None = None, server: Endpoint = SERVER, isProxy: bool = True
    ) -> None:
        """Run the check."""
        check = ProxyCheck(
            self.upstream, self.clock, target, server, QUESTION, isProxy, lambda: IDENT,
            cure=lambda: "Start ssh with -D 1080.",
        )  # fmt: skip
        verifyObject(ICheck, check)
        self.check = check
        self.found: Deferred[list[Finding]] = check.run()

    def checked(self) -> None:
        """The proxy answers, and does not connect to an address that nobody has."""
        self.upstream.answerCheck()
        self.assertEqual(self.upstream.asked[0], NOWHERE)
        self.upstream.asked.pop(0)
        self.upstream.fail(UpstreamRefused("Refused."))

    def assertLast(self, level: Level, *words: str) -> list[Finding]:
        """The last finding has this level and these words; returns all findings."""
        found = self.successResultOf(self.found)
        self.assertSentences(found, self.check)
        self.assertEqual(found[-1].level, level, found)
        for word in words:
            self.assertIn(word, f"{found[-1].text} {found[-1].cure}")
        self.assertClean()
        return found

    def leg(self, kind: LegKind = LegKind.SOCKS5) -> FakeControl:
        """Complete the association with a leg to the peer."""
        control = FakeControl()
        sock = self.client() if kind is LegKind.SOCKS5 else socket.socket(type=socket.SOCK_DGRAM)
        sock.setblocking(False)
        self.upstream._datagramLegs.pop().callback(DatagramLeg(sock.detach(), kind, control))
        return control

    def test_down(self) -> None:
        """A proxy that does not answer is one failure, with the upstream's own sentence."""
        self.begin()
        self.upstream.answerCheck(ProxyError("The proxy is down; start it."))
        (found,) = self.assertLast(Level.FAIL, "The proxy is down; start it.")
        self.assertEqual(found.cure, "Start ssh with -D 1080.")

    def test_refused(self) -> None:
        """One that answers and refuses runs, so there is nothing to start."""
        self.begin()
        self.upstream.answerCheck(AuthenticationError("The password is wrong; correct it."))
        (found,) = self.assertLast(Level.FAIL, "The password is wrong")
        self.assertEqual(found.cure, "")

    def test_well(self) -> None:
        """TCP and UDP are both tried, with a datagram to the server and back."""
        self.begin(Endpoint("example.org", 443))
        self.checked()
        self.upstream.answer().close()
        self.assertEqual(self.upstream.asked, [Endpoint("example.org", 443)])
        control = self.leg()
        header = b"\0\0\0\x01\x7f\0\0\x01\0\x35"
        self.assertEqual(self.answer(header + ANSWER), header + QUESTION.query(IDENT))
        found = self.assertLast(Level.OK, "UDP works: 127.0.0.1:53")
        self.assertEqual([each.level for each in found], [Level.OK] * 4)
        self.assertTrue(control.closed)

    def test_names(self) -> None:
        """With fake addresses it is told whether the UDP relay takes names."""
        for error, level, words in (
            (None, Level.OK, "takes host names"),
            (NamesUnsupported("It takes none."), Level.INFO, "It takes none. Names of UDP"),
        ):
            upstream = self.upstream = NamedFakeUpstream("socks5://proxy:1080")
            check = ProxyCheck(
                upstream, self.clock, None, SERVER, QUESTION, True, lambda: IDENT, names=True
            )
            self.check, self.found = check, check.run()
            self.checked()
            self.leg()
            self.answer(b"\0\0\0\x01\x7f\0\0\x01\0\x35" + ANSWER)
            if error is None:
                self.assertTrue(upstream.answerDatagrams().closed)
            else:
                upstream.failDatagrams(error)
            self.assertLast(level, words)

    def test_chain(self) -> None:
        """A proxy behind another is not asked for UDP, and why is said."""
        check = ProxyCheck(
            self.upstream, self.clock, None, SERVER, QUESTION, name="upstream deep", via="office"
        )
        self.check, self.found = check, check.run()
        self.checked()
        self.assertLast(Level.INFO, "is dialled through office, and a chain carries no UDP")
        self.assertEqual(self.upstream.families, [])

    def test_noServer(self) -> None:
        """Without a server whose address is known, UDP is not tried, and why is said."""
        check = ProxyCheck(self.upstream, self.clock, None, None, None, names=True)
        self.check, self.found = check, check.run()
        self.checked()
        self.assertLast(Level.INFO, "not tried, because no server of dns is given by address")
        self.assertEqual(self.upstream.families, [])

    def test_otherHeaders(self) -> None:
        """An answer may name its sender by IPv6 address or name; a wrong header is no answer."""
        for header in (b"\0\0\0\x04" + bytes(18), b"\0\0\0\x03\x04host\0\x35"):
            self.begin(server=Endpoint("2001:db8::1", 53))
            self.checked()
            self.assertEqual(self.upstream.families.pop(), 6)
            self.leg()
            for nonsense in (b"", b"\0\0\0\x09", b"\0\0\0\x03"):
                self.answer(nonsense)
                self.clock.advance(RETRY / TRIES)
                self.askAgain()
            self.answer(header + ANSWER)
            self.assertLast(Level.OK)

    def askAgain(self) -> None:
        """Send the question once more."""
        for reader in self.clock.readers:
            reader._socket.send(reader._payload)

    def test_target(self) -> None:
        """A proxy that does not connect is a failure, and UDP is tried nevertheless."""
        self.begin(Endpoint("192.0.2.1", 9))
        self.checked()
        self.upstream.fail(UpstreamRefused("Refused."))
        self.upstream.failDatagrams(DatagramsUnsupported("No UDP here."))
        found = self.assertLast(Level.WARN, "refuses UDP ASSOCIATE: No UDP here.")
        self.assertEqual(found[2].level, Level.FAIL)
        self.assertIn("does not connect to 192.0.2.1:9: Refused.", found[2].text)

    def test_acceptsEarly(self) -> None:
        """A proxy that claims to reach an address that nobody has accepts before it connects."""
        self.upstream.carriesDatagrams = False
        self.begin()
        self.upstream.answerCheck()
        with self.upstream.answer() as peer:
            found = self.successResultOf(self.found)
            self.assertEqual(peer.recv(1), b"")
        self.assertSentences(found, self.check)
        self.assertEqual([each.level for each in found], [Level.OK, Level.WARN, Level.INFO])
        self.assertIn("accepts before it connects", found[1].text)
        self.assertIn("Every port looks open", found[1].cure)

    def test_slow(self) -> None:
        """The questions are asked together, as a check has not much time."""
        self.begin(Endpoint("192.0.2.7", 9))
        self.upstream.answerCheck()
        self.assertEqual(self.upstream.asked, [NOWHERE, Endpoint("192.0.2.7", 9)])
        self.assertEqual(self.upstream.families, [4])
        self.found.cancel()
        self.failureResultOf(self.found)
        self.assertClean()

    def test_noDatagrams(self) -> None:
        """A scheme without UDP is reported, but not as a fault."""
        self.upstream.carriesDatagrams = False
        self.begin()
        self.checked()
        self.assertLast(Level.INFO, "carries no UDP")

    def test_associateFails(self) -> None:
        """Any other error of the association is a warning."""
        self.begin()
        self.checked()
        self.upstream.failDatagrams(ProxyError("Closed; look."))
        self.assertLast(Level.WARN, "UDP ASSOCIATE failed: Closed; look.")

    def test_anyAnswer(self) -> None:
        """UDP works if the server answers with an error, which is the matter of another check."""
        self.begin()
        self.checked()
        self.leg()
        self.answer(b"\0\0\0\x01\x7f\0\0\x01\0\x35" + withCode(5))
        self.assertLast(Level.OK, "UDP works")

    def test_silentRelay(self) -> None:
        """A silent UDP relay of the proxy is a warning, and the association is closed."""
        self.begin()
        self.checked()
        control = self.leg()
        self.exhaust()
        self.assertLast(Level.WARN, "did not answer through it", "firewalls")
        self.assertTrue(control.closed)

    def test_relayRefuses(self) -> None:
        """A closed port of the proxy's UDP relay is a warning that says so."""
        self.begin()
        self.checked()
        self.leg()
        self.peer.recv(100)
        self.clock.readers[0].connectionLost(Failure(ConnectionRefusedError(111, "Refused")))
        self.assertLast(Level.WARN, "cannot be reached (Refused)")

    def test_direct(self) -> None:
        """Without a proxy the datagram has no header."""
        self.begin(server=Endpoint(*self.peer.getsockname()), isProxy=False)
        self.upstream.answerCheck()
        self.leg(LegKind.DIRECT)
        self.assertEqual(self.answer(ANSWER), QUESTION.query(IDENT))
        self.assertLast(Level.OK)


class TrialTests(CheckCase):
    """L{TrialCheck}."""

    def check(self, result: Any, *flags: str) -> Finding:
        """The finding when the attempt has this result."""
        outcome = fail(result) if isinstance(result, Exception) else succeed(result)
        check = TrialCheck(settings(*flags), lambda call: outcome, True)
        verifyObject(ICheck, check)
        (found,) = self.successResultOf(cast(Any, check.run()))
        self.assertSentences([found], check)
        return cast(Finding, found)

    def test_levels(self) -> None:
        """A device without offload is a warning, unless the settings turn offload off."""
        self.assertEqual(self.check(True).level, Level.OK)
        self.assertEqual(self.check(False).level, Level.WARN)
        self.assertEqual(self.check(False, "--offload", "off").level, Level.OK)

    def test_failures(self) -> None:
        """A missing device is a failure; a missing namespace to try it in is not."""
        found = self.check(DeviceError("no device; get one."))
        self.assertEqual((found.level, found.text), (Level.FAIL, "No device; get one."))
        found = self.check(RoutingError("no namespace; be privileged."))
        self.assertEqual(found.level, Level.INFO)
        self.assertIn("'nanotun run' cannot work here: no namespace", found.text)

    def test_attempt(self) -> None:
        """The attempt runs in the thread, with the settings."""
        given: list[object] = []
        wanted = settings()

        def attempt(each: object) -> bool:
            given.append(each)
            return True

        check = TrialCheck(wanted, lambda call: succeed(call()), True, attempt)
        self.assertEqual(self.successResultOf(cast(Any, check.run()))[0].level, Level.OK)
        self.assertEqual(given, [wanted])

    def test_notRoot(self) -> None:
        """Without root, nothing is tried."""
        check = TrialCheck(settings(), lambda call: succeed(call()), False, lambda _: 1 // 0 == 0)
        self.assertFinds(check, Level.INFO, "Not tried")
