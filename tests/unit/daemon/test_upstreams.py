"""Tests of L{nanotun.daemon.upstreams}."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.daemon.upstreams import Upstreams, noticesOf
from nanotun.errors import UpstreamNetUnreachable
from nanotun.flow import Endpoint
from nanotun.interfaces import IUpstream, ProxyURL, UpstreamContext
from nanotun.router.named import NamedUpstream
from nanotun.testing.names import FakeNames
from nanotun.upstream.reject import RejectUpstream
from nanotun.upstream.scheme import Scheme

PROXY = Endpoint("192.0.2.1", 1080)


def settingsOf(proxy: str, **more: str) -> Settings:
    """Settings with these proxies."""
    given = {"proxy": proxy, **more}
    flags = {name: flagValue(KEYS[name], text) for name, text in given.items()}
    return makeSettings({}, flags, None)


class UpstreamsTests(SynchronousTestCase):
    """L{Upstreams}."""

    def upstreams(self, proxy: str, leadsIn: str = "", **more: str) -> Upstreams:
        """Those of these proxies, where the route to one host leads into the device."""
        return Upstreams(settingsOf(proxy, **more), Clock(), FakeNames(), leadsIn.__eq__)

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

    def test_leadsIn(self) -> None:
        """Every upstream knows which routes lead into the device."""
        upstreams = self.upstreams("direct://", "203.0.113.1")
        for upstream in (upstreams.upstream, upstreams.direct):
            leg = upstream.connect(Endpoint("203.0.113.1", 443))
            self.failureResultOf(leg, UpstreamNetUnreachable)
        proxy = cast(Any, self.upstreams("h", "203.0.113.1").upstream)
        self.assertTrue(proxy._context.leadsIn("203.0.113.1"))

    def test_names(self) -> None:
        """Names are followed for upstreams that are sent them, and for all with fake-ip."""
        for proxy, mode, expected in (
            ("socks5://h", "normal", (False, False)),
            ("socks5h://h", "normal", (True, False)),
            ("socks5://h", "fake-ip", (True, True)),
        ):
            made = self.upstreams(proxy, dnsMode=mode)
            found = (isinstance(each, NamedUpstream) for each in (made.upstream, made.direct))
            self.assertEqual(tuple(found), expected, (proxy, mode))

    def test_services(self) -> None:
        """The service of a scheme's upstream runs as long as the upstreams, with or
        without pools."""
        made: list[Service] = []

        def make(url: ProxyURL, context: UpstreamContext) -> IUpstream:
            assert context.services is not None
            made.append(Service())
            made[-1].setServiceParent(context.services)
            return RejectUpstream()

        for pool in (0, 2):
            line = ProxyURL(Scheme("line", make))
            settings = replace(settingsOf("direct://"), proxy=(line,), upstreamPool=pool)
            upstreams = Upstreams(settings, Clock(), FakeNames())
            self.assertFalse(made[-1].running, pool)
            upstreams.startService()
            self.assertTrue(made[-1].running, pool)
            upstreams.stopService()
            self.assertFalse(made[-1].running, pool)

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
            upstream = Upstreams(settings, Clock(), FakeNames()).upstream
            notices = noticesOf(settings, upstream)
            self.assertEqual(len(notices), len(words), proxy)
            for notice, word in zip(notices, words, strict=True):
                self.assertIn(word, notice)
