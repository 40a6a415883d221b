"""
The report as text for people: rows of a name and a text, 80 columns wide.

Pure.  Text from outside, such as the names of processes and files, is escaped, so it
cannot control the terminal.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from nanotun.config.askedservers import through
from nanotun.config.units import sizeText, timeText
from nanotun.rundir import RUN_DIR, command

WIDTH = 80

#: Columns for the names.
NAMES = 11

#: What each counter of dropped packets and flows counts.
DROPS = {
    "pendingLimit": "connections that made way for others, as too many were waiting",
    "sourceLimit": "connections that made way for others of one program or machine",
    "flowLimit": "connections, because no more can be open",
    "halfOpen": "connections that the app asked for and did not complete",
    "malformed": "packets that are no valid IP, TCP or UDP",
    "gateway": "packets to ports of the gateway where nothing listens",
    "write": "packets that the device did not take",
    "undecided": "datagrams, because too many waited for a decision",
    "send": "datagrams that a socket did not take on the way out",
    "reply": "datagrams from outside with a wrong header, or unexpected",
    "service": "datagrams to the DNS relay, because it did not keep up",
    "stack": "packets that the TCP/IP stack had no use for",
}

#: What each counter of queries that no server was needed for counts.
ANSWERED_HERE = {
    "hosts": "/etc/hosts",
    "ruled": "dnsRules",
    "rejected": "rejected names",
    "private": "private addresses",
    "absent": "absent names",
    "stale": "past their time",
    "rebound": "rebinding",
}

#: The ways in which connections were made.
PATHS = {
    "standing": "by an earlier decision",
    "engine": "by the engine",
    "general": "by Python",
}


def printable(text: object) -> str:
    """Escape every control character of a text."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def millisText(seconds: float) -> str:
    """A short time, given in seconds."""
    return f"{seconds * 1000:.0f} ms"


def _counts(counts: Mapping[str, Any]) -> str:
    """The counters that are not zero."""
    return ", ".join(f"{printable(name)} {count}" for name, count in counts.items() if count)


def statusRows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rows; a section that the report lacks contributes none."""
    for make in (
        _daemon,
        _device,
        _proxy,
        _upstreams,
        _engine,
        _verdicts,
        _dns,
        _script,
        _processes,
        _history,
        _routes,
        _resources,
    ):
        yield from make(report)


def statusLines(report: Mapping[str, Any]) -> list[str]:
    """The rows as lines of at most L{WIDTH} columns."""
    lines = []
    for name, text in statusRows(report):
        first, rest = f"{name:<{NAMES}}", " " * NAMES
        lines += textwrap.wrap(
            text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        ) or [name]
    return lines


def ratesOf(before: Mapping[str, Any], after: Mapping[str, Any], seconds: float) -> str:
    """The traffic per second between two reports; empty if it is not known."""
    old, new = before.get("engine"), after.get("engine")
    if not old or not new or seconds <= 0:
        return ""
    up, down = (
        (new["bytes"][direction] - old["bytes"][direction]) / seconds
        for direction in ("up", "down")
    )
    flows = (new["flows"]["total"] - old["flows"]["total"]) / seconds
    return f"{sizeText(up)}/s up, {sizeText(down)}/s down, {flows:.1f} flows/s"


def _daemon(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    daemon = report.get("daemon")
    if daemon:
        text = f"{daemon['version']}, process {daemon['pid']}, up {timeText(daemon['uptime'])}"
        yield "nanotun", text
        if daemon["config"]:
            yield "config", printable(daemon["config"])


def _device(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    device, engine = report.get("device"), report.get("engine")
    if device:
        offload = "on" if device["offload"] else "off"
        text = f"{printable(device['name'])}, MTU {device['mtu']}, offload {offload}"
        yield "device", text + (f", engine {engine['mode']}" if engine else "")


def _proxy(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    upstream = report.get("upstream")
    if upstream:
        # An older daemon knows this one only, and less of it.
        upstream = (report.get("upstreams") or {}).get("proxy", upstream)
        via = upstream.get("via")
        begin = f"through {printable(via)}: " if via else ""
        yield from _members(upstream, "proxies" if upstream["policy"] else "proxy", begin)


def _upstreams(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, upstream in (report.get("upstreams") or {}).items():
        if name != "proxy":
            via = upstream["via"]
            way = f" (through {printable(via)})" if via else ""
            yield from _members(upstream, "upstream", f"{printable(name)}{way}: ")


def _members(upstream: Mapping[str, Any], name: str, begin: str) -> Iterator[tuple[str, str]]:
    """
    The rows of an upstream.

    @param name: of the first row.
    @param begin: how its text begins.
    """
    # One for each program, unless a script makes them.
    logIns = upstream.get("programs")
    ending = "" if logIns is None else f", {logIns} log-in{'s' if logIns != 1 else ''}"
    if upstream["policy"]:
        yield name, f"{begin}{printable(upstream['policy'])}{ending}"
        name = begin = ending = ""
    states = {"closed": "up", "open": "down", "half open": "tried again"}
    if not upstream["policy"]:
        # Nothing is chosen, so only its health matters; an older daemon does not tell it.
        states = {}
    for proxy in upstream["proxies"]:
        parts = [begin + printable(proxy["url"])]
        if proxy["state"]:
            health = proxy.get("health", proxy["state"])
            health = "not asked yet" if health == "unknown" else health
            parts.append(states.get(proxy["state"], printable(health)))
        if proxy["latency"] is not None:
            parts.append(millisText(proxy["latency"]))
        if proxy["udp"] is False:
            parts.append("no UDP")
        if proxy["pool"]:
            parts.append(f"{proxy['pool']['idle']} connections wait")
        yield name, ", ".join(parts) + ending
        if proxy.get("trouble"):
            yield "", printable(proxy["trouble"])


def _engine(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    engine = report.get("engine")
    if not engine:
        return
    flows, datagrams = engine["flows"], engine["datagrams"]
    yield (
        "flows",
        # An older daemon does not count those that are half-open.
        f"{flows['open']} open, {flows.get('halfOpen', 0)} half-open, "
        f"{flows['deciding']} being decided, {flows['total']} opened, "
        f"{flows['refused']} refused",
    )
    up, down = sizeText(engine["bytes"]["up"]), sizeText(engine["bytes"]["down"])
    yield "bytes", f"{up} up, {down} down"
    yield (
        "datagrams",
        f"{datagrams['up']} up, {datagrams['down']} down, {datagrams['associations']} "
        f"associations, {datagrams['flows']} flows",
    )
    drops = [
        f"{count} {DROPS.get(name, printable(name))}"
        for name, count in engine["drops"].items()
        if count
    ]
    for at, text in enumerate(drops or ["none"]):
        yield ("" if at else "drops"), text


def _verdicts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    verdicts = report.get("verdicts")
    if verdicts:
        yield "verdicts", _counts(verdicts["verdicts"]) or "none yet"
        # An older daemon has no rules of the user's.
        ways = {each["rule"]: f" ({each['to']})" for each in verdicts.get("userRules", ())}
        rules = {f"{name}{ways.get(name, '')}": n for name, n in verdicts["rules"].items()}
        if _counts(rules):
            yield "rules", _counts(rules)
        # Without upstreams of other names, the verdicts say it all; an older daemon knows none.
        upstreams = verdicts.get("upstreams", {})
        if not set(upstreams) <= set(verdicts["verdicts"]):
            yield "upstreams", _counts(upstreams)
        # Nor does an older daemon know in which ways connections were made.
        paths = verdicts.get("paths", {})
        made = [f"{paths[name]} {text}" for name, text in PATHS.items() if paths.get(name)]
        if made:
            yield "connected", ", ".join(made)


def _dns(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    dns = report.get("dns")
    if not dns:
        return
    servers = ", ".join(printable(server) for server in dns["servers"])
    # An older daemon knows one way only.
    via = dns.get("via", "direct")
    way = "" if via == "direct" else f"{through(printable(via))}, "
    yield "dns", f"{dns['mode']}, {way}servers {servers}"
    yield (
        "",
        f"{dns['queries']} queries, {dns['hits']} from the cache ({dns['cached']} answers), "
        f"{dns['servfail']} failed, {dns['timeouts']} timeouts",
    )
    # An older daemon does not count them.
    here = _counts({text: dns.get(name, 0) for name, text in ANSWERED_HERE.items()})
    if here:
        yield "", f"answered here: {here}"
    # An older daemon does not tell them apart.
    for server in dns.get("asked", ()):
        yield "", printable(_server(server))
        if server["trouble"]:
            yield "", printable(server["trouble"])


def _server(server: Mapping[str, Any]) -> str:
    """What has come of the queries to one DNS server."""
    way = "" if server["via"] == "direct" else f" {through(server['via'])}"
    parts = []
    if server["queries"]:
        parts.append("no answer yet" if server["state"] == "unknown" else server["state"])
        if server["latency"] is not None:
            parts.append(millisText(server["latency"]))
        parts.append(f"{server['queries']} asked")
        if server["errors"]:
            parts.append(f"{server['errors']} failed")
    if server["hits"]:
        parts.append(f"{server['hits']} from the cache")
    return f"{server['server']}{way}: {', '.join(parts) or 'not asked yet'}"


def _script(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    script = report.get("script")
    if script:
        counts = (f"{script[name]} {name}" for name in ("asked", "failed", "late", "waiting"))
        text = f"{printable(script['path'])}: {', '.join(counts)}"
        if blocked := script["blocked"]:
            text += f"; it has blocked nanotun {'once' if blocked == 1 else f'{blocked} times'}"
        yield "script", text


def _processes(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    processes = report.get("processes")
    if processes:
        text = (
            f"{processes['excluded']} of {processes['known']} go past the proxy, "
            f"{processes['misses']} flows whose process was not found"
        )
        # A daemon of an earlier version does not tell.
        if waiting := processes.get("waiting"):
            text += f", {waiting} wait for theirs"
        yield "processes", text


def _history(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    history = report.get("history")
    if history:
        counts = ", ".join(f"{history[name]} {name}" for name in ("recorded", "waiting", "lost"))
        text = f"{printable(history['file'])}: flows: {counts}"
        yield "history", f"{text}; {printable(history['trouble'])}" if history["trouble"] else text


def _routes(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    routes = report.get("routes")
    if not routes:
        return
    text = f"{routes['changes']} changes in force"
    # A daemon of an earlier version does not tell.
    if only := routes.get("only"):
        text += f", for {printable(' and '.join(only))} only"
    if routes["killSwitch"]:
        text += ", the kill switch is on"
    if routes["unconfirmed"]:
        # A daemon of an earlier version does not tell its runDir.
        runDir = (report.get("daemon") or {}).get("runDir") or RUN_DIR
        text += f", taken back soon unless '{printable(command('confirm', runDir))}' is called"
    yield "routes", text
    if routes["trouble"]:
        yield "", printable(routes["trouble"])


def _resources(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    resources, engine = report.get("resources"), report.get("engine")
    if not resources:
        return
    parts = []
    if "rss" in resources:
        parts.append(f"{sizeText(resources['rss'])} memory")
    if engine:
        runtime = engine["runtime"]
        parts.append(f"{sizeText(runtime['heap'])} heap, {runtime['goroutines']} goroutines")
    parts += [f"{resources[name]} {name}" for name in ("threads", "fds") if name in resources]
    yield "resources", ", ".join(parts)
