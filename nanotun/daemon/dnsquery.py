"""
What the relay answers to a query, and which of its steps gave the answer: the daemon's part of
C{nanotun dns}.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from nanotun.config.domains import NAME_LIMIT, comparable
from nanotun.daemon.reload import Live
from nanotun.errors import RunningError
from nanotun.gateway import Gateway
from nanotun.gateway.dns.message import RCODE
from nanotun.gateway.dns.shown import recordsOf
from nanotun.gateway.dns.trace import Trace
from nanotun.gateway.dns.types import RCODES, typeNumber, typeText
from nanotun.policy.dnsnames import NameVerdict

#: Labels that need no escapes, with dots between them.  What has a colon is a URL, or has a port
#: behind it.
_LABEL = r"[!-\-/-9;-\[\]-~]{1,63}"
_LABELS = re.compile(rf"{_LABEL}(\.{_LABEL})*")


def askedName(text: str) -> str | None:
    """
    A name as it is asked for.

    @return: in lower case and in its ASCII form, without dots at the ends, so empty for C{"."},
        the root; L{None} if it is none.
    """
    if text == ".":
        return ""
    try:
        name = comparable(text)
    except ValueError:
        return None
    return name if len(name) <= NAME_LIMIT and _LABELS.fullmatch(name) else None


def dnsHandler(
    live: Live, gateway: Gateway, seconds: Callable[[], float]
) -> Callable[[Mapping[str, Any]], Deferred[dict[str, Any]]]:
    """
    The handler of C{nanotun dns}, whose arguments are C{name} and C{type}.  The query is like any
    other: it is counted, its answer is kept, and it can take a fake address.

    @param seconds: a clock that only grows.
    """

    def handler(arguments: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        name = askedName(str(arguments.get("name", "")))
        kind = typeNumber(str(arguments.get("type", "")))
        if name is None or kind is None:
            raise RunningError("This is no question about a name.")
        trace, began = Trace(), seconds()

        def report(answer: bytes) -> dict[str, Any]:
            trace.rule = trace.rule or ruleBehind(trace, live.current.names.of(name))
            return {
                "name": name or ".",
                "type": typeText(kind),
                **answerReport(answer, trace),
                "seconds": seconds() - began,
                "pid": os.getpid(),
            }

        return gateway.ask(name, kind, trace).addCallback(report)

    return handler


def ruleBehind(trace: Trace, said: NameVerdict) -> str:
    """
    The entry of C{dnsRules} because of which a query was answered at a stage behind the rules.

    @param said: what is said about its name.
    @return: as text for the user; empty if there is none.
    """
    if trace.stage == "fake":
        return said.rule if said.fake else ""
    # The script may have named another server, and C{system} stands for others.
    named = any(each.scheme == "system" or str(each) == trace.server for each in said.servers)
    silent = trace.stage == "server" and not trace.server and bool(said.servers)
    return said.rule if named or silent else ""


def answerReport(answer: bytes, trace: Trace) -> dict[str, Any]:
    """
    An answer under the names of C{nanotun dns --json}.

    @param trace: of its query.
    """
    rcode = answer[3] & RCODE
    return {
        "status": RCODES.get(rcode, f"RCODE{rcode}"),
        "stage": trace.stage,
        "rule": trace.rule,
        "server": trace.server,
        "via": trace.via,
        "cached": trace.cached,
        "age": trace.age,
        "records": [each._asdict() for each in recordsOf(answer)],
        "tries": [each._asdict() for each in trace.tries],
    }
