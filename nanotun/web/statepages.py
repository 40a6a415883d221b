"""
The pages about the daemon itself: the overview, its upstreams and rules.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from nanotun.config.units import sizeText, timeText
from nanotun.web.html import Child, Html, join, tag
from nanotun.web.parts import (
    cell,
    heading,
    healthBadge,
    number,
    numberHead,
    orNothing,
    section,
    table,
    tiles,
)
from nanotun.web.text import NOTHING, countText, millisText

#: Seconds that the graph of the overview shows; C{page.js} has the same number.
GRAPH_SECONDS = 120

#: Values of a rule's condition that are shown; it may have very many.
LISTED = 20


def overviewPage(status: Mapping[str, Any]) -> Html:
    """
    The first page.

    @param status: the report of C{nanotun status}.
    """
    graph = tag(
        "section",
        tag("h2", "Traffic"),
        tag(
            "p",
            tag("span", "down ", tag("b", NOTHING, id="rate-down"), class_="legend down"),
            tag("span", "up ", tag("b", NOTHING, id="rate-up"), class_="legend up"),
            tag("span", "the most ", tag("b", NOTHING, id="rate-most"), class_="legend"),
            class_="legends",
        ),
        tag(
            "svg",
            tag("path", class_="down area"),
            tag("path", class_="down line"),
            tag("path", class_="up line"),
            id="graph",
            viewBox="0 0 600 160",
            preserveAspectRatio="none",
            role="img",
            aria_label=f"Bytes per second of the last {GRAPH_SECONDS} seconds",
        ),
        tag("p", f"The last {GRAPH_SECONDS} seconds, the newest on the right.", class_="about"),
        id="traffic",
        hidden=True,
    )
    return join(
        heading("Overview", _daemon(status.get("daemon"))),
        section("", tiles(_totals(status)), live="totals"),
        graph,
        section(
            "Upstreams", upstreamTable((status.get("upstreams") or {}).items()), live="upstreams"
        ),
        section("Decisions", _decisions(status.get("verdicts") or {}), live="decisions"),
    )


def _daemon(daemon: Mapping[str, Any] | None) -> Html | None:
    if daemon is None:
        return None
    config = daemon["config"]
    text = f"Version {daemon['version']}, process {daemon['pid']}"
    return tag("p", text, (", ", tag("code", config)) if config else None)


def _totals(status: Mapping[str, Any]) -> Iterator[tuple[str, Child]]:
    engine, daemon, dns = (status.get(name) or {} for name in ("engine", "daemon", "dns"))
    if engine:
        flows, datagrams = engine["flows"], engine["datagrams"]
        yield "Open TCP flows", tag("a", countText(flows["open"]), href="/flows")
        yield "Open UDP flows", countText(datagrams["flows"])
        yield "All TCP flows", countText(flows["total"])
        yield "Up", sizeText(engine["bytes"]["up"])
        yield "Down", sizeText(engine["bytes"]["down"])
        yield "Dropped packets", countText(sum(engine["drops"].values()))
    if "queries" in dns:
        yield "DNS queries", tag("a", countText(dns["queries"]), href="/dns")
    if daemon:
        yield "Running for", timeText(daemon["uptime"])


def _decisions(verdicts: Mapping[str, Any]) -> Html:
    counts = sorted((verdicts.get("verdicts") or {}).items(), key=lambda each: -each[1])
    rows = (
        tag("tr", cell("Verdict", name), number("Flows", countText(count)), data_key=name)
        for name, count in counts
        if count
    )
    return table(["Verdict", numberHead("Flows")], rows, "Nothing has been decided yet.")


def upstreamsPage(upstreams: Mapping[str, Mapping[str, Any]]) -> Html:
    """
    The page about where flows leave.

    @param upstreams: by name, as in the status report.
    """
    return join(
        heading("Upstreams"),
        section("", upstreamTable(upstreams.items(), whole=True), live="upstreams"),
    )


def upstreamTable(upstreams: Iterable[tuple[str, Mapping[str, Any]]], whole: bool = False) -> Html:
    """
    A line for each proxy.

    @param whole: with what only the page about upstreams has room for.
    """
    more = ["Policy", "Through", "UDP", numberHead("Connections ready")] if whole else []
    columns = ["Upstream", "Proxy", "Health", numberHead("Handshake"), *more]
    rows = (
        _proxyRow(name, upstream, proxy, whole)
        for name, upstream in upstreams
        for proxy in upstream["proxies"]
    )
    return table(columns, rows, "There is no upstream.")


def _proxyRow(
    name: str, upstream: Mapping[str, Any], proxy: Mapping[str, Any], whole: bool
) -> Html:
    trouble = proxy.get("trouble")
    health = [healthBadge(proxy["health"]), (" ", tag("small", trouble)) if trouble else None]
    more = []
    if whole:
        udp = {True: "yes", False: "no", None: NOTHING}[proxy["udp"]]
        pool = proxy["pool"]
        more = [
            cell("Policy", orNothing(upstream["policy"])),
            cell("Through", orNothing(upstream.get("via"))),
            cell("UDP", udp),
            number("Connections ready", NOTHING if pool is None else pool["idle"]),
        ]
    return tag(
        "tr",
        cell("Upstream", tag("a", name, href=f"/flows?{urlencode({'q': name})}")),
        cell("Proxy", tag("code", proxy["url"]), kind="wide"),
        cell("Health", health),
        number("Handshake", millisText(proxy["latency"])),
        more,
        data_key=f"{name} {proxy['url']}",
    )


def rulesPage(rules: Mapping[str, Any]) -> Html:
    """
    The page about the user's rules.

    @param rules: C{rules}, C{counts} and C{default}; see L{nanotun.web.api.Api.rules}.
    """
    users = (_ruleRow(each) for each in rules["rules"])
    own = {each["rule"] for each in rules["rules"]}
    others = (
        tag("tr", cell("Rule", name), number("Flows", countText(count)), data_key=name)
        for name, count in sorted(rules["counts"].items())
        if name not in own and count
    )
    return join(
        heading("Rules", tag("p", "All other flows leave by ", tag("b", rules["default"]), ".")),
        section(
            "",
            table(
                ["Rule", "Flows that meet", "Go to", "Written in", numberHead("Flows so far")],
                users,
                "You have no rules.",
            ),
            live="rules",
        ),
        section(
            "Built in",
            table(["Rule", numberHead("Flows so far")], others, "None has decided yet."),
            live="built-in",
        ),
    )


def _ruleRow(rule: Mapping[str, Any]) -> Html:
    return tag(
        "tr",
        cell("Rule", tag("a", rule["rule"], href=f"/flows?{urlencode({'q': rule['rule']})}")),
        cell("Flows that meet", _conditions(rule["when"]), kind="wide"),
        cell("Go to", rule["to"]),
        cell("Written in", tag("code", rule["where"])),
        number("Flows so far", countText(rule["flows"])),
        data_key=rule["rule"],
    )


def _conditions(when: Mapping[str, Any]) -> Child:
    """A rule's conditions, each in a line."""
    if not when:
        return NOTHING
    return [
        tag("div", tag("small", f"{name} "), _listed(value)) for name, value in sorted(when.items())
    ]


def _listed(value: object) -> str:
    """What a condition names."""
    if isinstance(value, list):
        more = [f"and {countText(len(value) - LISTED)} more"] if len(value) > LISTED else []
        return ", ".join([*map(str, value[:LISTED]), *more])
    return str(value)
