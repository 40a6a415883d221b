"""Tests of L{nanotun.upstream.group.perprogram}."""

from __future__ import annotations

from twisted.application.service import MultiService, Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import AuthenticationError, ConfigError, ProxyError, UpstreamRefused
from nanotun.flow import Endpoint
from nanotun.interfaces import INamedDatagrams, IUpstream, UpstreamContext, Via
from nanotun.log.trouble import TroubleLog
from nanotun.testing import FakeUpstream, NamedFakeUpstream
from nanotun.upstream.dial.resolver import AddressBook
from nanotun.upstream.group.breaker import FAULTS
from nanotun.upstream.group.perprogram import PerProgram, ProgramUpstream, Values
from nanotun.upstream.group.sole import SoleUpstream
from nanotun.upstream.schemes.table import parseProxyURL
from nanotun.upstream.url import expanded, plain
from tests.unit.upstream.group_cases import DESTINATION, GroupCase, fault
from tests.unit.upstream.upstream_cases import FakeReactor, unmarkedContext


def valuesOf(process: str) -> Values:
    """Those of one program."""
    return (("process", process),)


class PerProgramTests(GroupCase):
    """L{PerProgram}, over a failover group of two."""

    def setUp(self) -> None:
        """Have no programs yet."""
        super().setUp()
        self.own: dict[str, list[NamedFakeUpstream]] = {}
        self.pools: dict[str, Service] = {}
        self.full = 0
        self.programs = PerProgram(self.group, self.make, self.isFull, limit=2)
        self.addCleanup(lambda: self.programs.running and self.programs.stopService())

    def make(self, values: Values, services: MultiService) -> list[NamedFakeUpstream]:
        """One fake for each member, and a service in the place of a pool."""
        ((_, process),) = values
        self.own[process] = [self.makeFake(name) for name in "ab"]
        pool = self.pools[process] = Service()
        pool.setServiceParent(services)
        return self.own[process]

    def isFull(self) -> None:
        """A program has made way."""
        self.full += 1

    def upstreamOf(self, process: str) -> ProgramUpstream:
        """The upstream of one program."""
        return self.programs.upstreamOf(valuesOf(process))

    def running(self) -> list[str]:
        """The programs whose pools run."""
        return [process for process, pool in self.pools.items() if pool.running]

    def test_interface(self) -> None:
        """A program's upstream looks like the group."""
        upstream = self.upstreamOf("curl")
        verifyObject(IUpstream, upstream)
        verifyObject(INamedDatagrams, upstream)
        self.assertEqual(upstream.describe(), self.group.describe())
        self.fakes[1].proxy = DESTINATION
        self.assertTrue(upstream.dials(DESTINATION))
        self.assertFalse(upstream.dials(Endpoint("192.0.2.9", 1)))
        for name in ("sharesLegs", "sendsNames", "carriesDatagrams"):
            for value in (True, False):
                setattr(self.group, name, value)
                self.assertIs(getattr(upstream, name), value, name)

    def test_own(self) -> None:
        """A program's legs are its own, and nobody else is asked for them."""
        upstream = self.upstreamOf("curl")
        dial = self.dial(upstream)
        leg, named = upstream.associate(4), upstream.associateNamed(6)
        one = self.own["curl"][0]
        self.assertEqual((one.asked, one.families), ([DESTINATION], [4]))
        self.assertEqual(one.namedFamilies, [6])
        self.addCleanup(one.answer().close)
        self.took(dial)
        for each in (leg, named):
            one.answerDatagrams()
            self.tookDatagrams(each)
        self.assertEqual(self.asked(), [0, 0])
        self.assertEqual([fake.families for fake in self.fakes], [[], []])

    def test_health(self) -> None:
        """Whether a proxy is up is known to all programs from the flows of one."""
        curl, wget = self.upstreamOf("curl"), self.upstreamOf("wget")
        for _ in range(FAULTS):
            dial = self.dial(curl)
            self.own["curl"][0].fail(fault())
            self.addCleanup(self.own["curl"][1].answer().close)
            self.took(dial)
        self.assertFalse(self.member(0).healthy)
        dial = self.dial(wget)
        self.assertEqual([len(each.asked) for each in self.own["wget"]], [0, 1])
        self.addCleanup(self.own["wget"][1].answer().close)
        self.took(dial)
        self.assertIsNotNone(self.member(1).heardAt)

    def test_refusedLogin(self) -> None:
        """A log-in that a proxy refuses is tried at the next one, and the first stays healthy."""
        curl = self.upstreamOf("curl")
        for _ in range(FAULTS):
            dial = self.dial(curl)
            self.own["curl"][0].fail(AuthenticationError("It does not accept curl."))
            self.addCleanup(self.own["curl"][1].answer().close)
            self.took(dial)
        self.assertTrue(self.member(0).healthy)
        self.assertEqual(self.member(0).health(self.clock.seconds()), "up")

    def test_refusedCommonLogin(self) -> None:
        """If the user name is no template, a proxy that refuses it is of no use to anybody."""
        programs = PerProgram(self.group, lambda values, services: self.fakes, self.isFull)
        for _ in range(FAULTS):
            dial = self.dial(programs.upstreamOf(valuesOf("curl")))
            self.fakes[0].fail(AuthenticationError("It does not accept ann."))
            self.addCleanup(self.fakes[1].answer().close)
            self.took(dial)
        self.assertFalse(self.member(0).healthy)

    def test_same(self) -> None:
        """One program has one upstream, and so one association; another has another."""
        self.assertIs(self.upstreamOf("curl"), self.upstreamOf("curl"))
        self.assertIsNot(self.upstreamOf("curl"), self.upstreamOf("wget"))
        self.assertEqual(len(self.programs), 2)
        self.assertTrue(PerProgram(self.group, self.make, self.isFull))

    def test_pools(self) -> None:
        """Pools run with the service, and those of later programs at once."""
        self.upstreamOf("curl")
        self.assertEqual(self.running(), [])
        self.programs.startService()
        self.upstreamOf("wget")
        self.assertEqual(self.running(), ["curl", "wget"])
        self.programs.stopService()
        self.assertEqual(self.running(), [])

    def test_limit(self) -> None:
        """The program that was silent for longest loses its pool; its upstream works on."""
        self.programs.startService()
        curl = self.upstreamOf("curl")
        wget = self.upstreamOf("wget")
        self.assertIs(self.upstreamOf("curl"), curl)
        dial = self.dial(wget)
        self.assertEqual(self.full, 0)
        self.upstreamOf("git")
        self.assertEqual((self.full, len(self.programs)), (1, 2))
        self.assertEqual(self.running(), ["curl", "git"])
        self.addCleanup(self.own["wget"][0].answer().close)
        self.took(dial)
        dial = self.dial(wget)
        self.own["wget"][0].fail(UpstreamRefused("No."))
        self.failureResultOf(dial, UpstreamRefused)
        self.assertIs(self.upstreamOf("curl"), curl)
        self.assertIsNot(self.upstreamOf("wget"), wget)

    def test_broken(self) -> None:
        """If a program's upstreams cannot be made, its flows fail and take no other way."""

        def make(values: Values, services: MultiService) -> list[FakeUpstream]:
            raise ConfigError("The certificates are gone.")

        upstream = PerProgram(self.group, make, self.isFull).upstreamOf(valuesOf("curl"))
        for leg in (
            self.dial(upstream),
            upstream.associate(4),
            upstream.associateNamed(4),
        ):
            error = self.failureResultOf(leg, ProxyError)
            self.assertEqual(str(error.value), "The certificates are gone.")
        self.assertEqual(self.asked(), [0, 0])


class PlannedPerProgramTests(PerProgramTests):
    """The same, by dial plans."""

    plans = True


class LogInTests(SynchronousTestCase):
    """Programs of a single proxy whose URL is a template."""

    def setUp(self) -> None:
        """A proxy behind an upstream that the test answers for."""
        self.reactor = FakeReactor()
        self.url = parseProxyURL("socks5://{process}:secret@proxy.example")
        self.via = FakeUpstream()
        self.context = unmarkedContext(self.reactor)._replace(
            addresses=AddressBook(self.reactor).of
        )

    def programs(self, context: UpstreamContext) -> PerProgram:
        """The programs of a single upstream."""

        def make(values: Values, services: MultiService) -> list[IUpstream]:
            own = context._replace(services=services)
            return [self.url.scheme.make(expanded(self.url, dict(values)), own)]

        trouble = TroubleLog(self.reactor, Logger(namespace="test"))
        common = self.url.scheme.make(expanded(self.url, {"process": "nanotun"}), context)
        self.sole = SoleUpstream(common, self.reactor, 5.0, 30.0, trouble)
        return PerProgram(self.sole, make, lambda: None)

    def heard(self) -> bytes:
        """What the proxy receives on the oldest connection, up to the log-in."""
        with self.via.answer(b"\5\2") as far:
            return far.recv(1000)

    def test_logIn(self) -> None:
        """Each program logs in by its own name; nanotun's checks do by nanotun's."""
        programs = self.programs(self.context._replace(via=Via("one", self.via)))
        for process in ("curl", "a:b"):
            programs.upstreamOf(valuesOf(process)).connect(DESTINATION)
            name = plain(process).encode()
            self.assertEqual(
                self.heard(), b"\5\2\0\2" + b"\1" + bytes((len(name),)) + name + b"\6secret"
            )
        self.sole.startService()
        self.addCleanup(self.sole.stopService)
        self.assertIn(b"\7nanotun\6secret", self.heard())

    def test_shown(self) -> None:
        """Errors name the template, so that those of all programs are one cause for the log."""
        programs = self.programs(self.context._replace(via=Via("one", self.via)))
        texts = set()
        for process in ("curl", "wget"):
            dial = programs.upstreamOf(valuesOf(process)).connect(DESTINATION)
            self.via.fail(UpstreamRefused("No."))
            texts.add(str(self.failureResultOf(dial, ProxyError).value))
        (text,) = texts
        self.assertIn("socks5://{process}:***@proxy.example:1080", text)

    def test_lookup(self) -> None:
        """The proxy's name is looked up once for all programs, and then its address is known."""
        programs = self.programs(self.context)
        dials = [
            programs.upstreamOf(valuesOf(name)).connect(DESTINATION) for name in ("curl", "wget")
        ]
        ((receiver, name),) = self.reactor.lookups
        self.assertEqual(name, "proxy.example")
        self.assertFalse(self.sole.dials(Endpoint("192.0.2.7", 1080)))
        for dial in dials:
            dial.cancel()
            self.failureResultOf(dial, CancelledError)
        receiver.resolutionBegan(None)
        receiver.addressResolved(IPv4Address("TCP", "192.0.2.7", 1080))
        receiver.resolutionComplete()
        self.assertTrue(self.sole.dials(Endpoint("192.0.2.7", 1080)))
