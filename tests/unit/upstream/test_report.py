"""Tests of the report in L{nanotun.upstream.group.group}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from nanotun.interfaces import IUpstream
from nanotun.log.trouble import TroubleLog
from nanotun.upstream.group.group import GroupUpstream, upstreamReport
from nanotun.upstream.make import groupOf, upstreamsFor
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.upstream.upstream_cases import unmarkedContext


class ReportTests(SynchronousTestCase):
    """L{upstreamReport}."""

    def upstream(self, *urls: str, pool: int = 0) -> tuple[IUpstream, list[IUpstream]]:
        """An upstream and what it is made of."""
        context = unmarkedContext(Clock(), 10)._replace(poolSize=pool)
        single = upstreamsFor([parseProxyURL(url) for url in urls], context)
        trouble = TroubleLog(Clock(), Logger())
        return groupOf(single, "failover", context, 30, trouble), single

    def test_one(self) -> None:
        """A single upstream is reported with its URL, without the password, and its pool."""
        report = upstreamReport(*self.upstream("socks5://ann:hunter2@h", pool=2), 0)
        self.assertIs(report["policy"], None)
        (proxy,) = report["proxies"]
        self.assertEqual(proxy["url"], "socks5://ann:***@h:1080")
        self.assertEqual(proxy["pool"], {"idle": 0, "dialling": 0})
        self.assertEqual((proxy["state"], proxy["latency"], proxy["udp"]), ("closed", None, None))
        self.assertEqual((proxy["health"], proxy["trouble"]), ("unknown", ""))

    def test_several(self) -> None:
        """Of several, each one's health is reported, in the configuration's order."""
        group, single = self.upstream("h:1", "direct://")
        assert isinstance(group, GroupUpstream)
        first, second = group.members.all
        first.measure(0.5)
        first.datagrams = False
        for _ in range(3):
            group.members.failed(second, "It is off.")
        first.answered()
        report = upstreamReport(group, single, 0)
        self.assertEqual(report["policy"], "failover")
        self.assertEqual(
            [
                (each["url"], each["state"], each["latency"], each["udp"])
                for each in report["proxies"]
            ],
            [("socks5://h:1", "closed", 0.5, False), ("direct://", "open", None, None)],
        )
        self.assertIs(report["proxies"][0]["pool"], None)
        self.assertEqual(
            [(each["health"], each["trouble"]) for each in report["proxies"]],
            [("up", ""), ("down", "It is off.")],
        )
        group.stopService()
