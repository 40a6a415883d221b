"""
The metrics, made of the status report and what else is counted.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from nanotun.metrics.made import counter, counters, gauge, gauges, histograms, summaries
from nanotun.timer import Durations

#: A section of the report; see L{nanotun.control.report}.
Section = Mapping[str, Any]

#: Of the relay's counters: who has answered a query instead of a server.
ANSWERED = {
    "hits": "cache",
    "stale": "stale",
    "hosts": "hosts",
    "ruled": "rules",
    "rejected": "rejected",
    "scripted": "script",
    "faked": "fake",
    "absent": "absent",
    "private": "private",
}

#: Of the same: why a query got no answer, or a message none.
TURNED_AWAY = (
    "limited",
    "malformed",
    "notQueries",
    "outside",
    "streamsLimited",
    "unserved",
    "ignored",
    "rebound",
    "fakesRefused",
)


class Counted(NamedTuple):
    """
    What is asked for at each scrape.

    @ivar report: the status report.  Asked first, since that has the engine tell its news.
    @ivar decisions: how many flows were decided, by verdict, rule and upstream; the rule is
        empty for what rules that are gone have decided.
    @ivar dialTimes: how long dials took, by upstream.
    @ivar dialFailures: how many failed, by upstream and cause.
    """

    report: Callable[[], Mapping[str, Section | None]]
    decisions: Callable[[], Mapping[tuple[str, str, str], int]]
    dialTimes: Callable[[], Mapping[str, Durations]]
    dialFailures: Callable[[], Mapping[tuple[str, str], int]]


class Families(Collector):
    """
    A collector, as the registries of C{prometheus_client} take it.

    @param started: seconds since 1970.
    @param lag: how late the reactor was.
    """

    def __init__(self, counted: Counted, started: float, lag: Durations) -> None:
        self._counted = counted
        self._started = started
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        """All metrics.  Those of a section that the report lacks are left out."""
        report = self._counted.report()
        for name, families in _SECTIONS.items():
            section = report.get(name)
            if section is not None:
                yield from families(section)
        yield gauge("start_time_seconds", "When the daemon started, since 1970", self._started)
        yield from _flows(self._counted)
        yield histograms(
            "reactor_lag_seconds",
            "How late the reactor calls what is due; measured while somebody scrapes",
            (),
            (((), self._lag),),
        )


def _flows(counted: Counted) -> Iterator[Metric]:
    # What rules had decided that a reload has removed is moved from their sets of labels to that
    # without a rule: a burst of flows where there was none, so that it is left out.
    decisions = counted.decisions().items()
    yield counters(
        "decisions",
        "Flows by what was decided",
        ("verdict", "rule", "upstream"),
        ((labels, count) for labels, count in decisions if labels[1]),
        kept=1,
    )
    yield histograms(
        "dial_seconds",
        "How long the dials of TCP flows took that led to a connection",
        ("upstream",),
        (((name,), durations) for name, durations in counted.dialTimes().items()),
    )
    yield counters(
        "dial_failures",
        "Dials of TCP flows that failed, by whose fault it was",
        ("cause", "upstream"),
        (((cause, name), count) for (name, cause), count in counted.dialFailures().items()),
        kept=1,
    )


def _daemon(section: Section) -> Iterator[Metric]:
    value = {"version": section["version"], "python": platform.python_version()}
    yield InfoMetricFamily("nanotun_build", "The version that runs", value=value)


def _engine(section: Section) -> Iterator[Metric]:
    flows, carried, packets = section["flows"], section["bytes"], section["packets"]
    datagrams, drops, runtime = section["datagrams"], section["drops"], section["runtime"]
    yield InfoMetricFamily("nanotun_engine", "The engine", value={"mode": section["mode"]})
    yield gauges(
        "flows_open",
        "Open flows",
        ("protocol",),
        ((("tcp",), flows["open"]), (("udp",), datagrams["flows"])),
    )
    yield gauge("flows_waiting", "TCP flows that wait for a decision or a leg", flows["deciding"])
    yield gauge("flows_half_open", "TCP flows that the app has yet to complete", flows["halfOpen"])
    yield counter("flows", "TCP flows that were opened", flows["total"])
    yield counter("flows_refused", "TCP flows that were refused", flows["refused"])
    yield counters("bytes", "Bytes of TCP flows", ("direction",), _ways(carried, "up", "down"))
    yield counters("datagrams", "Datagrams", ("direction",), _ways(datagrams, "up", "down"))
    yield counters(
        "packets",
        "Packets from apps (in) and to apps (out)",
        ("direction",),
        _ways(packets, "in", "out"),
    )
    yield counter("retransmits", "Packets sent again to apps", packets["retransmitted"])
    yield counter("checksum_errors", "Packets with a wrong checksum", packets["checksumErrors"])
    yield gauge("associations_open", "Sockets for datagrams", datagrams["associations"])
    yield counter("associations", "Sockets opened for datagrams", datagrams["associationsTotal"])
    yield counter("associations_evicted", "Those closed for others", datagrams["evicted"])
    yield counters("drops", "Packets and flows that were dropped", ("cause",), _ways(drops, *drops))
    yield gauge("go_heap_bytes", "Memory of the engine's heap", runtime["heap"])
    yield gauge("go_goroutines", "Goroutines of the engine", runtime["goroutines"])


def _verdicts(section: Section) -> Iterator[Metric]:
    paths = section["paths"]
    yield counters(
        "joins",
        "TCP flows that got a leg, by who made it",
        ("path",),
        _ways(paths, *paths),
    )
    yield gauge("dials_open", "Dials under way of which Python knows", section["dialling"])


def _upstreams(section: Section) -> Iterator[Metric]:
    proxies = [
        ((name, proxy["url"]), proxy)
        for name, report in section.items()
        for proxy in report["proxies"]
    ]
    labels = "upstream", "proxy"
    yield gauges(
        "upstream_up",
        "Whether a proxy answered when it was used or asked last; absent before",
        labels,
        (
            (each, float(proxy["health"] == "up"))
            for each, proxy in proxies
            if proxy["health"] != "unknown"
        ),
        join=min,
    )
    yield gauges(
        "upstream_latency_seconds",
        "How long a handshake with a proxy takes, a mean of the last ones",
        labels,
        ((each, proxy["latency"]) for each, proxy in proxies if proxy["latency"] is not None),
        join=max,
    )
    yield gauges(
        "upstream_pool_connections",
        "Connections to a proxy that are kept ready, or are being made",
        (*labels, "state"),
        (
            ((*each, state), count)
            for each, proxy in proxies
            for state, count in (proxy["pool"] or {}).items()
        ),
    )


def _dns(section: Section) -> Iterator[Metric]:
    yield counter("dns_queries", "Queries of programs", section["queries"])
    yield counter("dns_cache_hits", "Queries answered from the cache", section["hits"])
    yield counter("dns_cache_misses", "Queries that the cache had no answer to", section["misses"])
    yield gauge("dns_cache_answers", "Answers in the cache", section["cached"])
    yield gauge("dns_cache_bytes", "Memory of these answers, about", section["cachedBytes"])
    yield gauge("dns_waiting", "Queries that wait for a server", section["inFlight"])
    yield gauge("dns_fake_addresses", "Fake addresses in use, about", section["fakes"])
    yield counter("dns_unanswered", "Queries that no server answered", section["servfail"])
    yield counters(
        "dns_answers",
        "Queries answered without a server, by what has answered",
        ("source",),
        (((source,), section[name]) for name, source in ANSWERED.items()),
    )
    yield counters(
        "dns_turned_away",
        "Queries, answers and connections that were refused or dropped, by cause",
        ("cause",),
        _ways(section, *TURNED_AWAY),
    )
    servers = [((each["server"], each["via"]), each) for each in section["asked"]]
    labels = "server", "via"
    yield counters(
        "dns_server_queries",
        "Attempts to ask a server",
        labels,
        ((each, server["queries"]) for each, server in servers),
    )
    yield counters(
        "dns_server_failures",
        "Attempts without an answer, and answers such as SERVFAIL",
        labels,
        ((each, server["errors"]) for each, server in servers),
    )
    yield summaries(
        "dns_server_seconds",
        "How long the answers of a server took",
        labels,
        ((each, (server["answers"], server["seconds"])) for each, server in servers),
    )
    yield gauges(
        "dns_server_up",
        "Whether a server answers; absent before its first answer",
        labels,
        (
            (each, float(server["state"] == "up"))
            for each, server in servers
            if server["state"] != "unknown"
        ),
        join=min,
    )


def _processes(section: Section) -> Iterator[Metric]:
    yield counter("process_lookups", "Flows whose program was looked up", section["lookups"])
    yield counter("process_lookup_misses", "Those without a result", section["misses"])
    yield gauge(
        "process_lookups_waiting", "Flows whose program is not found yet", section["waiting"]
    )


def _script(section: Section) -> Iterator[Metric]:
    yield counter("script_calls", "Calls of the user's script", section["asked"])
    yield counters(
        "script_failures",
        "Calls of the user's script that went wrong",
        ("cause",),
        _ways(section, "failed", "late", "blocked"),
    )


def _ways(section: Section, *names: str) -> list[tuple[tuple[str], float]]:
    """Some numbers of a section, each with its name as the only label."""
    return [((name,), section[name]) for name in names]


_SECTIONS: Mapping[str, Callable[[Section], Iterator[Metric]]] = {
    "daemon": _daemon,
    "engine": _engine,
    "verdicts": _verdicts,
    "upstreams": _upstreams,
    "dns": _dns,
    "processes": _processes,
    "script": _script,
}
