"""
The answer to C{nanotun dns} as text for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nanotun.config.askedservers import through
from nanotun.config.units import timeText
from nanotun.console.dns.options import USUAL
from nanotun.console.statustext import millisText, printable

#: What a status means without any records.
_EMPTY = {"NOERROR": "no data", "NXDOMAIN": "there is no such name"}

#: Who answers at a stage that asks no server.
_STAGES = {
    "script": "the script",
    "fake": "dnsMode: fake-ip, which gives the name addresses of its own",
    "absent": "dnsMode: fake-ip; no DNS server knows the name",
    "private": "nobody: only servers in your own network are asked about private addresses",
    "limit": "nobody: too many queries are under way, or too many fake addresses in use",
    # Neither a server nor a rule has to do with it.
    "": "the relay itself",
}


def answerLines(report: Mapping[str, Any]) -> list[str]:
    """
    The answer, a line each.

    @param report: has the fields of C{nanotun dns --json}.
    """
    rows = [*_answer(report), *_asked(report), ("by", _by(report)), *_rule(report)]
    rows.append(("took", _timeText(report["seconds"])))
    lines = [f"{report['name']} {report['type']}", *(f"  {name:<8} {text}" for name, text in rows)]
    # A server chooses what is in its answers.
    return [printable(line.rstrip()) for line in lines]


def _answer(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The status, with the records."""
    status, name = report["status"], report["status"]
    for record in report["records"]:
        kind = "" if record["type"] == report["type"] else f"{record['type']} "
        yield name, f"{kind}{record['data']} ({record['ttl']} s)"
        name = ""
    if name:
        silent = report["stage"] == "server" and not report["server"]
        yield name, "no server answered" if silent else _EMPTY.get(status, "")


def _asked(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The servers that were asked and did not answer."""
    times: dict[tuple[str, str], list[float]] = {}
    for each in report["tries"]:
        if each["trouble"]:
            place = _place(each["server"], each["via"])
            times.setdefault((place, _trouble(each)), []).append(each["seconds"])
    name = "asked"
    for (place, trouble), seconds in times.items():
        often = f", {len(seconds)} times" if len(seconds) > 1 else ""
        yield name, f"{place}: {trouble} ({_timeText(sum(seconds))}{often})"
        name = ""


def _trouble(tried: Mapping[str, Any]) -> str:
    """What is wrong with a server, to be read behind its name and how it is asked."""
    text: str = tried["trouble"].removesuffix(".")
    beginning = f"The DNS server {tried['server']}"
    for each in (f"{beginning}, asked {through(tried['via'])}, ", f"{beginning} "):
        text = text.removeprefix(each)
    return text


def _by(report: Mapping[str, Any]) -> str:
    """Who has given the answer."""
    stage, rule, server = report["stage"], report["rule"], report["server"]
    place = _place(server, report["via"])
    if stage == "server":
        return place or "nobody"
    if stage in ("cache", "stale"):
        # That server may be one which a reload has removed.
        given = f"; {server} gave it" if server else ""
        late = ", past its time, because no server answered" if stage == "stale" else ""
        return f"the cache, {timeText(report['age'])} old{late}{given}"
    if stage == "rejected":
        return f"{rule}, as dnsRejected says"
    if stage in ("rule", "hosts"):
        return str(rule)
    if stage == "fake" and (not report["records"] or report["type"] not in USUAL):
        return "dnsMode: fake-ip, which asks no server about this"
    return _STAGES.get(stage, str(stage))


def _rule(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The rule because of which it was this one, where that does not say it."""
    if report["rule"] and report["stage"] not in ("rejected", "rule", "hosts"):
        yield "rule", report["rule"]


def _place(server: str, via: str) -> str:
    """A server and how it is asked; empty without one."""
    return f"{server}, {through(via)}" if server else ""


def _timeText(seconds: float) -> str:
    return millisText(seconds) if seconds < 1 else f"{seconds:.1f} s"
