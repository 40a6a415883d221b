"""Tests of L{nanotun.daemon.upstreams}."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.addresses import SOCKET_MARK
from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.daemon.upstreams import REFRESH_LIMIT, Upstreams, noticesOf
from nanotun.errors import ProxyError, UpstreamError, UpstreamNetUnreachable
from nanotun.flow import Decision, Endpoint, Flow, Owner, Protocol, Verdict
from nanotun.interfaces import (
    IPlanned,
    IUpstream,
    IUpstreams,
    ProxyURL,
    UpstreamContext,
    UpstreamSettings,
)
from nanotun.log.trouble import TroubleLog
from nanotun.router.named import NamedUpstream
from nanotun.testing import FakeUpstream
from nanotun.testing.names import FakeNames
from nanotun.upstream.dial import secure
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.health import RECHECK_TIME
from nanotun.upstream.pool.pool import WarmPool
from nanotun.upstream.reject import RejectUpstream
from nanotun.upstream.scheme import Scheme

PROXY = Endpoint("192.0.2.1", 1080)
FLOW = Flow(1, Protocol.TCP, Endpoint("198.18.0.2", 40000), Endpoint("203.0.113.7", 443))


def settingsOf(proxy: str, **more: str) -> Settings:
    """Settings with these proxies."""
    given = {"proxy": proxy, **more}
    flags = {name: flagValue(KEYS[name], text) for name, text in given.items()}
    return makeSettings({}, flags, None)


def made(settings: Settings, leadsIn: str = "", clock: Clock | None = None) -> Upstreams:
    """The upstreams of these settings, where the route to one host leads into the device."""
    clock = clock or Clock()
    return Upstreams(settings, clock, FakeNames(), TroubleLog(clock, Logger()), leadsIn.__eq__)


class UpstreamsTests(SynchronousTestCase):
    """L{Upstreams}."""

    def upstreams(self, proxy: str, leadsIn: str = "", **more: str) -> Upstreams:
        """Those of these proxies, where the route to one host leads into the device."""
        return made(settingsOf(proxy, **more), leadsIn)

    def test_leaving(self) -> None:
        """The verdict says by which upstream a flow leaves."""
        upstreams = self.upstreams("socks5://192.0.2.1")
        verifyObject(IUpstreams, upstreams)
        for verdict, expected in (
            (Verdict.PROXY, upstreams.byName["proxy"]),
            (Verdict.DIRECT, upstreams.byName["direct"]),
        ):
            self.assertIs(upstreams.leaving(Decision(verdict, "rule"), FLOW), expected)

    def test_planned(self) -> None:
        """
        The engine may make the sockets of every upstream, with the mark, and flows to real
        addresses may stand where names are of fake ones only.
        """
        for mode, stands in (("fake-ip", True), ("normal", False)):
            upstreams = self.upstreams("http://192.0.2.1", dnsMode=mode)
            for name, standing in (("proxy", stands), ("direct", True)):
                plan = IPlanned(upstreams.byName[name]).plan(FLOW.destination)
                assert plan is not None
                self.assertEqual((plan.course.mark, plan.standing), (SOCKET_MARK, standing))

    def test_leavingByName(self) -> None:
        """A flow leaves by the upstream that its decision names."""
        upstreams = self.upstreams("h", upstreams="office=socks5://a,abroad=http://b")
        for name, proxy in (("office", "socks5://a:1080"), ("abroad", "http://b:80")):
            left = upstreams.leaving(Decision(Verdict.PROXY, "#1", upstream=name), FLOW)
            self.assertEqual(left.describe(), proxy)

    def test_gone(self) -> None:
        """A flow whose upstream is gone since a reload is refused, and goes nowhere else."""
        upstream = self.upstreams("direct://").leaving(
            Decision(Verdict.PROXY, "#1", upstream="office"), FLOW
        )
        verifyObject(IUpstream, upstream)
        for leg in (upstream.connect(FLOW.destination), upstream.associate(4)):
            error = self.failureResultOf(leg, UpstreamError).value
            self.assertEqual(
                str(error), "The upstream office is gone since the configuration was read again."
            )
        self.assertFalse(upstream.dials(PROXY))
        self.assertEqual(upstream.describe(), "nothing, as office is gone")

    def test_wayOf(self) -> None:
        """Decisions of the same way are equal, whatever the name of the upstream."""
        upstreams = self.upstreams("h", upstreams="office=socks5://h,abroad=http://b")
        proxy, office, abroad, gone = (
            upstreams.wayOf(Decision(Verdict.PROXY, "#1", upstream=name))
            for name in ("", "office", "abroad", "gone")
        )
        self.assertEqual(proxy, office)
        direct = upstreams.wayOf(Decision(Verdict.DIRECT, "#1"))
        self.assertEqual(len({proxy, abroad, gone, direct}), 4)

    def test_chains(self) -> None:
        """A proxy is dialled through the upstream that its own names, in whatever order."""
        settings = replace(
            settingsOf("socks5://c:3", upstreams="office=http://b:2,gate=socks5://192.0.2.1"),
            proxyVia="office",
        )
        office, gate = settings.upstreams
        settings = replace(settings, upstreams=(office._replace(via="gate"), gate))
        upstreams = made(settings)
        (last,), (middle,), (first,) = (
            cast(Any, upstreams.single[name]) for name in ("proxy", "office", "gate")
        )
        self.assertIs(last._context.via.upstream, upstreams.byName["office"])
        self.assertIs(middle._context.via.upstream, upstreams.byName["gate"])
        self.assertIs(first._context.via, None)
        self.assertEqual(list(upstreams.byName), ["proxy", "office", "gate", "direct"])
        self.assertTrue(upstreams.dials(PROXY))

    def test_dials(self) -> None:
        """A proxy's endpoint is found behind a group and behind names."""
        for proxy in (
            "socks5://192.0.2.1",
            "socks5h://192.0.2.1",
            "reject://,direct://,socks5h://192.0.2.1",
        ):
            upstreams = self.upstreams(proxy)
            self.assertTrue(upstreams.dials(PROXY), proxy)
            self.assertFalse(upstreams.dials(Endpoint("192.0.2.1", 1081)), proxy)
        self.assertFalse(self.upstreams("direct://,reject://").dials(PROXY))
        named = self.upstreams("direct://", upstreams="office=socks5://192.0.2.1")
        self.assertTrue(named.dials(PROXY))
        settings = replace(
            settingsOf("socks5://192.0.2.1", upstreams="office=socks5://192.0.2.2"),
            proxyVia="office",
        )
        # It is the other one that is dialled from here.
        self.assertFalse(made(settings).dials(PROXY))
        self.assertTrue(made(settings).dials(Endpoint("192.0.2.2", 1080)))

    def test_networkMoved(self) -> None:
        """In another network pools and groups begin anew; direct:// has neither."""
        told: list[str] = []
        self.patch(WarmPool, "networkMoved", lambda pool: told.append("pool"))
        self.patch(GroupUpstream, "networkMoved", lambda group: told.append("group"))
        self.upstreams("socks5://192.0.2.1", upstreamPool="2").networkMoved()
        self.assertEqual(sorted(told), ["group", "pool"])
        told.clear()
        named = {"upstreams": "office=socks5://192.0.2.1,abroad=http://b"}
        self.upstreams("direct://", upstreamPool="2", **named).networkMoved()
        self.assertEqual(sorted(told), ["group", "group", "pool", "pool"])
        told.clear()
        self.upstreams("direct://").networkMoved()
        self.assertEqual(told, [])

    def test_leadsIn(self) -> None:
        """Every upstream knows which routes lead into the device."""
        upstreams = self.upstreams("direct://", "203.0.113.1")
        for upstream in (upstreams.byName["proxy"], upstreams.byName["direct"]):
            leg = upstream.connect(Endpoint("203.0.113.1", 443))
            self.failureResultOf(leg, UpstreamNetUnreachable)
        proxy = cast(Any, self.upstreams("h", "203.0.113.1").single["proxy"][0])
        self.assertTrue(proxy._context.leadsIn("203.0.113.1"))

    def test_certificates(self) -> None:
        """Certificates are read once for all upstreams and programs, and again by a reload."""
        read: list[str] = []

        def note(ca: str) -> bytes:
            read.append(ca)
            return b""

        self.patch(secure, "readAuthorities", note)
        settings = settingsOf("https://a", upstreams="tor=https://{process}:x@b")
        for count in (1, 2):
            upstreams = made(settings)
            for process in ("curl", "wget"):
                owner = Owner(7, 0, process)
                decision = Decision(Verdict.PROXY, "#1", owner=owner, upstream="tor")
                upstreams.leaving(decision, FLOW)
            self.assertEqual(len(upstreams.perProgram["tor"]), 2)
            self.assertEqual(read, [""] * count)

    def test_names(self) -> None:
        """Names are followed for upstreams that are sent them, and for all with fake-ip."""
        for proxy, mode, expected in (
            ("socks5://h", "normal", (False, False)),
            ("socks5h://h", "normal", (True, False)),
            ("socks5://h", "fake-ip", (True, True)),
        ):
            upstreams = self.upstreams(proxy, dnsMode=mode)
            ways = upstreams.byName["proxy"]._upstream, upstreams.byName["direct"]  # type: ignore[attr-defined]
            found = (isinstance(each, NamedUpstream) for each in ways)
            self.assertEqual(tuple(found), expected, (proxy, mode))

    def test_sendsNames(self) -> None:
        """With fake-ip every proxy is sent names that can be, whatever its URL's scheme is
        called, and in a group each member what it can take."""
        for proxy, mode, expected in (
            ("socks5://h", "normal", False),
            ("socks5h://h", "normal", True),
            ("socks5://h", "fake-ip", True),
            ("http://h", "fake-ip", True),
            ("socks4a://h", "fake-ip", True),
            ("socks4://h", "fake-ip", False),
            ("direct://", "fake-ip", False),
            ("socks4://h,socks5://h", "fake-ip", True),
        ):
            made = self.upstreams(proxy, dnsMode=mode)
            self.assertIs(made.byName["proxy"].sendsNames, expected, (proxy, mode))
            self.assertFalse(made.byName["direct"].sendsNames)

    def test_services(self) -> None:
        """The service of a scheme's upstream runs as long as the upstreams, with or
        without pools."""
        services: list[Service] = []

        def make(url: ProxyURL, context: UpstreamContext) -> IUpstream:
            assert context.services is not None
            services.append(Service())
            services[-1].setServiceParent(context.services)
            return RejectUpstream()

        for pool in (0, 2):
            line = ProxyURL(Scheme("line", make))
            settings = replace(settingsOf("direct://"), proxy=(line,), upstreamPool=pool)
            upstreams = made(settings)
            self.assertFalse(services[-1].running, pool)
            upstreams.startService()
            self.assertTrue(services[-1].running, pool)
            upstreams.stopService()
            self.assertFalse(services[-1].running, pool)

    def test_report(self) -> None:
        """The report has each proxy, with its pool."""
        report = self.upstreams("h:1,http://h:2,direct://", upstreamPool="2").report()
        self.assertEqual(report["policy"], "failover")
        self.assertEqual(
            [(proxy["url"], proxy["pool"]) for proxy in report["proxies"]],
            [
                ("socks5://h:1", {"idle": 0, "dialling": 0}),
                ("http://h:2", {"idle": 0, "dialling": 0}),
                ("direct://", None),
            ],
        )

    def test_reports(self) -> None:
        """There is a report on each upstream, by name, which says how it is dialled."""
        settings = settingsOf(
            "h:1", upstreams="office=socks5://a,abroad=socks5://b,abroad=http://c"
        )
        office, abroad = settings.upstreams
        upstreams = made(replace(settings, upstreams=(office._replace(via="abroad"), abroad)))
        found = {
            name: (report["policy"], report["via"], [proxy["url"] for proxy in report["proxies"]])
            for name, report in upstreams.reports().items()
        }
        self.assertEqual(
            found,
            {
                "proxy": (None, None, ["socks5://h:1"]),
                "office": (None, "abroad", ["socks5://a:1080"]),
                "abroad": ("failover", None, ["socks5://b:1080", "http://c:80"]),
            },
        )

    def test_toldDown(self) -> None:
        """The log has told of all proxies once each of them is down."""
        self.assertFalse(self.upstreams("direct://").toldDown())
        for proxy in ("socks5://h", "socks5://h:1,http://h:2"):
            upstreams = self.upstreams(proxy)
            group = cast(GroupUpstream, upstreams.byName["proxy"])
            for member in group.members.all:
                self.assertFalse(upstreams.toldDown(), proxy)
                group.members.failed(member, "It is off.", atOnce=True)
            self.assertTrue(upstreams.toldDown(), proxy)
        upstreams = self.upstreams("h", upstreams="office=socks5://a")
        office = cast(GroupUpstream, upstreams.byName["office"])
        office.members.failed(office.members.all[0], "It is off.", atOnce=True)
        told = [upstreams.toldDown(name) for name in ("office", "proxy", "direct", "")]
        self.assertEqual(told, [True, False, False, False])

    def test_refresh(self) -> None:
        """A proxy is asked whether it is well, and has a few seconds; nobody else is asked."""
        for proxy in ("direct://", "reject://"):
            upstreams = self.upstreams(proxy)
            self.assertFalse(isinstance(upstreams.byName["proxy"], GroupUpstream))
            self.successResultOf(upstreams.refresh())
        fake, clock = FakeUpstream(), Clock()
        scheme = Scheme("line", lambda url, context: fake)
        line = ProxyURL(scheme, host="h", port=1)
        settings = replace(settingsOf("direct://"), proxy=(line,))
        upstreams = made(settings, clock=clock)
        self.successResultOf(upstreams.refresh())
        upstreams.startService()
        answered, late = upstreams.refresh(), upstreams.refresh()
        fake.answerCheck(ProxyError("It is off."))
        self.successResultOf(answered)
        self.successResultOf(late)
        (report,) = upstreams.report()["proxies"]
        self.assertEqual((report["health"], report["trouble"]), ("down", "It is off."))
        clock.advance(RECHECK_TIME)
        late = upstreams.refresh()
        clock.advance(REFRESH_LIMIT - 0.1)
        self.assertNoResult(late)
        clock.advance(0.1)
        self.successResultOf(late)
        upstreams.stopService()

    def test_refreshAll(self) -> None:
        """The proxies of all upstreams are asked at once."""
        fakes = [FakeUpstream(), FakeUpstream()]
        left = iter(fakes)
        lines = [
            ProxyURL(Scheme("line", lambda url, context: next(left)), host="h", port=port)
            for port in (1, 2)
        ]
        office = UpstreamSettings("office", (lines[1],))
        settings = replace(settingsOf("direct://"), proxy=(lines[0],), upstreams=(office,))
        upstreams = made(settings)
        upstreams.startService()
        refreshed = upstreams.refresh()
        fakes[0].answerCheck()
        self.assertNoResult(refreshed)
        fakes[1].answerCheck()
        self.successResultOf(refreshed)
        upstreams.stopService()


class NoticesTests(SynchronousTestCase):
    """L{noticesOf}."""

    def test_notices(self) -> None:
        """Users are told what a scheme says of its URL, and that nothing carries UDP."""
        for proxy, words in (
            ("h", ()),
            ("https://h,h", ()),
            ("https://h", ("https://h:443 carries no UDP",)),
            ("https://h?insecure=1,h", ("Nobody checks the certificate",)),
            ("https://h?insecure=1", ("carries no UDP", "Nobody checks the certificate")),
        ):
            settings = settingsOf(proxy)
            notices = noticesOf(settings, made(settings))
            self.assertEqual(len(notices), len(words), proxy)
            for notice, word in zip(notices, words, strict=True):
                self.assertIn(word, notice)

    def test_named(self) -> None:
        """What is said of an upstream by name says which, and a chain says why."""
        settings = settingsOf("h", upstreams="office=http://a,deep=socks5://b")
        office, deep = settings.upstreams
        settings = replace(settings, upstreams=(office, deep._replace(via="office")))
        self.assertEqual(
            noticesOf(settings, made(settings)),
            (
                "The upstream office (http://a:80) carries no UDP: apps hear so at once.",
                "The upstream deep is dialled through office, and a chain carries no UDP: apps "
                "hear so at once.",
            ),
        )
        settings = replace(settingsOf("h", upstreams="office=socks5://a"), proxyVia="office")
        self.assertEqual(
            noticesOf(settings, made(settings)),
            (
                "The upstream proxy is dialled through office, and a chain carries no UDP: apps "
                "hear so at once, and their DNS queries need the relay at 198.18.0.1.",
            ),
        )

    def test_known(self) -> None:
        """After a reload only upstreams that are new or different are spoken of."""
        before = settingsOf("http://h", upstreams="office=http://a,abroad=http://b")
        settings = settingsOf("http://h", upstreams="office=http://a,abroad=http://c,far=http://d")
        found = noticesOf(settings, made(settings), before)
        self.assertEqual([text.split()[2] for text in found], ["abroad", "far"])
