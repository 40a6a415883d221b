"""Tests of L{nanotun.metrics.families} and L{nanotun.metrics.made}."""

from __future__ import annotations

import platform
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.metrics.labels import LABEL_SETS
from tests.unit.metrics.metrics_cases import DECISIONS, FULL, counted, durations, samples

#: Every metric with its labels, as a query names them, and its value in the made-up report.
EXPECTED = """
nanotun_build_info{python="PYTHON",version="0.1"} 1
nanotun_engine_info{mode="gvisor"} 1
nanotun_flows_open{protocol="tcp"} 1
nanotun_flows_open{protocol="udp"} 23
nanotun_flows_waiting 2
nanotun_flows_half_open 3
nanotun_flows_total 4
nanotun_flows_refused_total 5
nanotun_bytes_total{direction="up"} 6
nanotun_bytes_total{direction="down"} 7
nanotun_datagrams_total{direction="up"} 26
nanotun_datagrams_total{direction="down"} 27
nanotun_packets_total{direction="in"} 8
nanotun_packets_total{direction="out"} 9
nanotun_retransmits_total 18
nanotun_checksum_errors_total 19
nanotun_associations_open 22
nanotun_associations_total 24
nanotun_associations_evicted_total 25
nanotun_drops_total{cause="pendingLimit"} 10
nanotun_drops_total{cause="sourceLimit"} 11
nanotun_drops_total{cause="flowLimit"} 12
nanotun_drops_total{cause="halfOpen"} 13
nanotun_drops_total{cause="malformed"} 14
nanotun_drops_total{cause="gateway"} 15
nanotun_drops_total{cause="write"} 16
nanotun_drops_total{cause="undecided"} 28
nanotun_drops_total{cause="send"} 29
nanotun_drops_total{cause="reply"} 30
nanotun_drops_total{cause="service"} 31
nanotun_drops_total{cause="stack"} 17
nanotun_go_heap_bytes 21
nanotun_go_goroutines 20
nanotun_joins_total{path="engine"} 5
nanotun_joins_total{path="standing"} 40
nanotun_joins_total{path="general"} 1
nanotun_dials_open 2
nanotun_upstream_up{proxy="socks5://a.test:1080",upstream="proxy"} 1
nanotun_upstream_up{proxy="http://192.0.2.2:3128",upstream="proxy"} 0
nanotun_upstream_latency_seconds{proxy="socks5://a.test:1080",upstream="proxy"} 0.02
nanotun_upstream_pool_connections{proxy="socks5://a.test:1080",state="idle",upstream="proxy"} 3
nanotun_upstream_pool_connections{proxy="socks5://a.test:1080",state="dialling",upstream="proxy"} 1
nanotun_dns_queries_total 0
nanotun_dns_cache_hits_total 1
nanotun_dns_cache_misses_total 33
nanotun_dns_cache_answers 19
nanotun_dns_cache_bytes 20
nanotun_dns_waiting 17
nanotun_dns_fake_addresses 21
nanotun_dns_unanswered_total 8
nanotun_dns_answers_total{source="cache"} 1
nanotun_dns_answers_total{source="stale"} 0
nanotun_dns_answers_total{source="hosts"} 3
nanotun_dns_answers_total{source="rules"} 120
nanotun_dns_answers_total{source="rejected"} 14
nanotun_dns_answers_total{source="script"} 23
nanotun_dns_answers_total{source="fake"} 2
nanotun_dns_answers_total{source="absent"} 31
nanotun_dns_answers_total{source="private"} 2
nanotun_dns_turned_away_total{cause="limited"} 10
nanotun_dns_turned_away_total{cause="malformed"} 11
nanotun_dns_turned_away_total{cause="notQueries"} 24
nanotun_dns_turned_away_total{cause="outside"} 13
nanotun_dns_turned_away_total{cause="streamsLimited"} 15
nanotun_dns_turned_away_total{cause="unserved"} 16
nanotun_dns_turned_away_total{cause="ignored"} 9
nanotun_dns_turned_away_total{cause="rebound"} 0
nanotun_dns_turned_away_total{cause="fakesRefused"} 22
nanotun_dns_server_queries_total{server="8.8.8.8:53",via="direct"} 40
nanotun_dns_server_failures_total{server="8.8.8.8:53",via="direct"} 1
nanotun_dns_server_seconds_count{server="8.8.8.8:53",via="direct"} 39
nanotun_dns_server_seconds_sum{server="8.8.8.8:53",via="direct"} 0.9
nanotun_dns_server_up{server="8.8.8.8:53",via="direct"} 1
nanotun_process_lookups_total 12
nanotun_process_lookup_misses_total 3
nanotun_process_lookups_waiting 1
nanotun_script_calls_total 20
nanotun_script_failures_total{cause="failed"} 2
nanotun_script_failures_total{cause="late"} 1
nanotun_script_failures_total{cause="blocked"} 4
nanotun_start_time_seconds 1234.5
nanotun_decisions_total{rule="default",upstream="proxy",verdict="proxy"} 40
nanotun_decisions_total{rule="#2",upstream="office",verdict="proxy"} 5
nanotun_decisions_total{rule="gateway",upstream="",verdict="serve"} 7
nanotun_dial_seconds_bucket{le="0.1",upstream="proxy"} 1
nanotun_dial_seconds_bucket{le="1.0",upstream="proxy"} 2
nanotun_dial_seconds_bucket{le="+Inf",upstream="proxy"} 3
nanotun_dial_seconds_count{upstream="proxy"} 3
nanotun_dial_seconds_sum{upstream="proxy"} 3.55
nanotun_dial_failures_total{cause="upstream",upstream="proxy"} 2
nanotun_reactor_lag_seconds_bucket{le="0.1"} 1
nanotun_reactor_lag_seconds_bucket{le="1.0"} 1
nanotun_reactor_lag_seconds_bucket{le="+Inf"} 1
nanotun_reactor_lag_seconds_count 1
nanotun_reactor_lag_seconds_sum 0.05
"""


class FamiliesTests(SynchronousTestCase):
    """L{Families}, read by a parser of OpenMetrics."""

    def upstreams(self, *proxies: tuple[str, str]) -> dict[str, float]:
        """What is said of an upstream with some proxies, each a URL and its health."""
        reports = [
            {"url": url, "health": health, "latency": None, "pool": None} for url, health in proxies
        ]
        report: dict[str, Any] = {"upstreams": {"office": {"proxies": reports}}}
        found = samples(counted(report=report))
        return {name: value for name, value in found.items() if "upstream_up" in name}

    def test_all(self) -> None:
        """Every number of the report is there, with its labels."""
        found = [f"{name} {value:g}" for name, value in samples(counted()).items()]
        expected = EXPECTED.replace("PYTHON", platform.python_version())
        self.assertEqual(found, expected.strip().splitlines())

    def test_absent(self) -> None:
        """What a report lacks, because there is no such part or it failed, is left out."""
        nothing = dict.fromkeys(FULL)
        found = samples(counted(report=nothing, decisions={}, dialTimes={}, dialFailures={}))
        self.assertEqual(
            {name.partition("{")[0].removesuffix("_bucket") for name in found},
            {
                "nanotun_start_time_seconds",
                "nanotun_reactor_lag_seconds",
                "nanotun_reactor_lag_seconds_count",
                "nanotun_reactor_lag_seconds_sum",
            },
        )

    def test_order(self) -> None:
        """The report is asked first, as it has the engine tell what is news."""
        asked: list[str] = []

        def ask(what: str, answer: Any) -> Any:
            asked.append(what)
            return answer

        first = counted()._replace(
            report=lambda: ask("report", {}), decisions=lambda: ask("decisions", {})
        )
        samples(first._replace(dialTimes=lambda: ask("dials", {})))
        self.assertEqual(asked, ["report", "decisions", "dials"])

    def test_manyDecisions(self) -> None:
        """Rules beyond the limit are one for each verdict, and none of their flows is lost."""
        many = {("proxy", f"#{number}", "proxy"): 1 for number in range(LABEL_SETS + 50)}
        found = samples(counted(report={}, decisions={**many, **DECISIONS}))
        decisions = {n: v for n, v in found.items() if n.startswith("nanotun_decisions_total")}
        # "#2" leads to two upstreams now.
        others = 'nanotun_decisions_total{rule="other",upstream="other",verdict="%s"}'
        self.assertEqual(len(decisions), LABEL_SETS + 2)
        self.assertEqual(decisions[others % "proxy"], 50 + 40 + 5)
        self.assertEqual(decisions[others % "serve"], 7)

    def test_goneRules(self) -> None:
        """
        What rules had decided that a reload has removed is left out: it would look like as many
        new flows.
        """
        self.assertFalse([name for name in samples(counted()) if 'rule=""' in name])

    def test_manyUpstreams(self) -> None:
        """Dials of upstreams beyond the limit are counted together."""
        many = {f"up{number}": durations(0.5) for number in range(LABEL_SETS + 3)}
        found = samples(counted(report={}, dialTimes=many))
        counts = {n: v for n, v in found.items() if n.startswith("nanotun_dial_seconds_count")}
        self.assertEqual(len(counts), LABEL_SETS + 1)
        self.assertEqual(counts['nanotun_dial_seconds_count{upstream="other"}'], 3)

    def test_sameProxy(self) -> None:
        """
        Proxies that differ in what is secret only are one, which is down if one of them is:
        Prometheus would take nothing of a page with two.
        """
        found = self.upstreams(("http://h:1", "up"), ("http://h:1", "down"), ("http://g:1", "up"))
        self.assertEqual(
            found,
            {
                'nanotun_upstream_up{proxy="http://h:1",upstream="office"}': 0,
                'nanotun_upstream_up{proxy="http://g:1",upstream="office"}': 1,
            },
        )

    def test_unknown(self) -> None:
        """A proxy that was never asked is neither up nor down."""
        self.assertEqual(self.upstreams(("http://h:1", "unknown")), {})

    def test_strangeLabels(self) -> None:
        """Quotes, backslashes and ends of lines in a label are no harm."""
        strange = {("proxy", 'a"b\\c\nd', "proxy"): 1}
        found = samples(counted(report={}, decisions=strange))
        name = 'nanotun_decisions_total{rule="a"b\\c\nd",upstream="proxy",verdict="proxy"}'
        self.assertEqual(found[name], 1)
