"""Tests of L{nanotun.doctor.upstreams}, C{datagrams}, C{trial} and C{checks}."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import replace
from typing import Any, cast

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from nanotun.doctor import neighbours
from nanotun.doctor.checks import allChecks, basicChecks, parseTarget
from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.plainhttp import PlainHttpCheck
from nanotun.doctor.servers import ClearNamesCheck, DnsCheck, ProxiedDnsCheck
from nanotun.doctor.trial import TrialCheck
from nanotun.doctor.upstreams import NOWHERE, ProxyCheck
from nanotun.errors import (
    AuthenticationError,
    ConfigError,
    DatagramsUnsupported,
    DeviceError,
    NamesUnsupported,
    ProxyError,
    RoutingError,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import DatagramLeg, LegKind, UpstreamSettings
from nanotun.testing import FakeControl, FakeUpstream, NamedFakeUpstream
from nanotun.upstream.datagramtrial import RETRY, TRIES, DatagramTrial, dnsQuery, isDnsAnswer
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.doctor.doctor_cases import HOME, CheckCase, settings
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


DNS_CHECKS = (DnsCheck, ProxiedDnsCheck)


class ChecksTests(CheckCase):
    """L{allChecks}, L{basicChecks} and L{parseTarget}."""

    def test_all(self) -> None:
        """Every proxy and every DNS server has a check of its own."""
        wanted = settings("--proxy", "http://10.0.0.2", "--dns", "192.0.2.1,192.0.2.2,2001:db8::1")
        checks = allChecks(wanted, (), None, Clock(), lambda call: None, self.machine, lambda: HOME)
        for check in checks:
            verifyObject(ICheck, check)
        names = [check.name for check in checks]
        self.assertEqual((names.count("proxy"), names.count("DNS")), (2, 3))
        self.assertEqual(len(set(names)), len(checks) - 3)

    def test_upstreams(self) -> None:
        """
        So has every proxy of an upstream by name; a proxy behind another is asked through that,
        and no process of this machine is blamed for it.
        """
        self.patch(neighbours, "cureOf", lambda machine, url: f"Look at {url.port}.")
        wanted = settings("--upstream", "office=socks5://127.0.0.1:1,office=http://127.0.0.1:2")
        deep = UpstreamSettings("deep", (parseProxyURL("http://127.0.0.1:3"),), via="office")
        wanted = replace(wanted, upstreams=(*wanted.upstreams, deep))
        target = Endpoint("example.org", 443)
        checks: list[Any] = [
            check
            for check in allChecks(
                wanted, (), target, Clock(), lambda call: None, self.machine, lambda: HOME
            )
            if isinstance(check, ProxyCheck | PlainHttpCheck)
        ]
        self.assertEqual(
            [(check.name, check._upstream.describe()) for check in checks],
            [
                ("proxy", "socks5://10.0.0.1:1080"),
                ("upstream office", "socks5://127.0.0.1:1"),
                ("upstream office", "http://127.0.0.1:2"),
                ("upstream deep", "http://127.0.0.1:3"),
                ("upstream office", "http://127.0.0.1:2"),
                ("upstream deep", "http://127.0.0.1:3"),
            ],
        )
        vias = [(check._upstream._context.via, check._cure()) for check in checks[:4]]
        self.assertEqual(
            vias[:3], [(None, "Look at 1080."), (None, "Look at 1."), (None, "Look at 2.")]
        )
        via, cure = vias[3]
        self.assertEqual((via.name, cure), ("office", ""))
        self.assertEqual(
            via.upstream.describe(), "failover of socks5://127.0.0.1:1, http://127.0.0.1:2"
        )

    def test_dnsVia(self) -> None:
        """With C{dnsVia: proxy} the servers are asked through the proxies; else, it is said."""
        for flags, kinds in (
            (("--dns-via", "proxy", "--auto-route"), [ProxiedDnsCheck] * 2),
            (("--auto-route",), [DnsCheck, DnsCheck, ClearNamesCheck]),
            ((), [DnsCheck, DnsCheck]),
        ):
            wanted = settings("--proxy", "http://10.0.0.2", "--dns", "192.0.2.1,192.0.2.2", *flags)
            checks = allChecks(
                wanted, (), None, Clock(), lambda call: None, self.machine, lambda: HOME
            )
            found = [check for check in checks if check.name == "DNS"]
            self.assertEqual([type(check) for check in found], kinds)
        (finding,) = ClearNamesCheck("It is so; do this.").run()
        self.assertEqual((finding.level, finding.text), (Level.INFO, "It is so; do this."))

    def test_question(self) -> None:
        """The servers are asked for the target's name; without one, for the first proxy's."""
        for way in ("direct", "proxy"):
            wanted = settings("--proxy", "socks5://proxy.example", "--dns-via", way)
            for target, name in (
                (Endpoint("www.example", 443), "www.example"),
                (Endpoint("192.0.2.7", 443), "proxy.example"),
                (None, "proxy.example"),
            ):
                checks = allChecks(
                    wanted, (), target, Clock(), lambda call: None, self.machine, lambda: HOME
                )
                asking = [each for each in checks if hasattr(each, "_question")]
                names = {(each.name, each._question.name) for each in asking}
                self.assertEqual(names, {("proxy", name), ("DNS", name)})

    def test_hidden(self) -> None:
        """With fake-ip no server that is asked past the proxy hears of the target's name."""
        for way, name in (
            ("direct", "proxy.example"),
            ("home", "proxy.example"),
            ("proxy", "www.example"),
            ("office", "www.example"),
        ):
            flags = ("--proxy", "socks5://proxy.example", "--dns-mode", "fake-ip")
            more = ("--upstream", "home=direct://", "--upstream", "office=socks5://10.0.0.2")
            wanted = settings(*flags, *more, "--dns-via", way)
            target = Endpoint("www.example", 443)
            checks = allChecks(
                wanted, (), target, Clock(), lambda call: None, self.machine, lambda: HOME
            )
            names = {each._question.name for each in checks if isinstance(each, DNS_CHECKS)}
            self.assertEqual(names, {name})

    def test_plainHttp(self) -> None:
        """With a target, plain http is tried through each HTTP proxy, and through no other."""
        wanted = settings("--proxy", "http://10.0.0.2,https://10.0.0.3,socks5://10.0.0.4")
        target = Endpoint("example.org", 443)
        checks = allChecks(
            wanted, (), target, Clock(), lambda call: None, self.machine, lambda: HOME
        )
        self.assertEqual(len([each for each in checks if isinstance(each, PlainHttpCheck)]), 2)

    def test_basic(self) -> None:
        """The basic checks need no configuration."""
        names = {check.name for check in basicChecks(self.machine)}
        self.assertEqual(names, {"program", "privileges", "/dev/net/tun", "open files", "clock"})

    def test_badFile(self) -> None:
        """A missing file that a proxy's URL names is an error."""
        wanted = settings("--proxy", f"https://10.0.0.2?ca={os.path.abspath('no-such-file')}")
        self.assertRaises(ConfigError, allChecks, wanted, (), None, Clock(), None, self.machine)

    def test_targets(self) -> None:
        """A target has a host and a port."""
        self.assertEqual(parseTarget("example.org:443"), Endpoint("example.org", 443))
        self.assertEqual(parseTarget("[2001:db8::1]:53"), Endpoint("2001:db8::1", 53))
        for text in ("", "host", ":1", "host:", "host:0", "host:65536", "host:x", "host:-1"):
            error = self.assertRaises(ConfigError, parseTarget, text)
            self.assertEqual(
                str(error),
                f"--target must be HOST:PORT, such as example.org:443, not {text!a}.",
            )
