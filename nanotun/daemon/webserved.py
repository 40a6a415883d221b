"""
What the web page and the API ask the daemon for: it exists only if C{web} is set, and nothing of
it is imported otherwise.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from nanotun.config.domains import comparable
from nanotun.config.file import Given
from nanotun.config.keys import KEYS
from nanotun.control.server import Handler
from nanotun.daemon.asked import addressByAddress, questionOf
from nanotun.daemon.described import Question
from nanotun.daemon.reload import Live
from nanotun.daemon.requests import userRules
from nanotun.errors import RunningError
from nanotun.gateway import Gateway
from nanotun.gateway.dns.addresses import checkName
from nanotun.interfaces import INames, IPacketEngine, IPart
from nanotun.log.service import LoggedService
from nanotun.log.tail import LogTail
from nanotun.router.router import FlowRouter
from nanotun.web.api import DaemonSide
from nanotun.web.events import EventSources
from nanotun.web.scan import eachFlow
from nanotun.web.server import WebServer

#: Addresses of one name that are judged; nobody tries more.
ADDRESS_LIMIT = 8


def makeWeb(
    live: Live,
    config: str,
    handlers: Mapping[str, Handler],
    engine: IPacketEngine,
    gateway: Gateway,
    router: FlowRouter,
    root: LoggedService,
    looked: Callable[[], object],
    reactor: Any,
) -> IPart:
    """
    The part that serves the page and the API.

    @param config: the configuration file's absolute path, or the empty string.
    @param handlers: of the control requests.
    @param root: the logs.
    @param looked: called when somebody looks at the flows.
    """
    tail = LogTail(time.time)
    root.also(tail.write)

    def flows(arguments: Mapping[str, Any]) -> dict[str, Any]:
        looked()
        return handlers["flows"](arguments)

    def explain(given: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        return addressByAddress(
            questionOf(given),
            lambda question: handlers["explain"](question._asdict()),
            partial(addressesOf, gateway.names),
        )

    def traffic() -> tuple[int, int, int]:
        stats = engine.stats()
        return stats.bytes_up, stats.bytes_down, stats.flows + stats.datagram_flows

    each = partial(eachFlow, flows, reactor)
    daemon = DaemonSide(
        flows=flows,
        each=each,
        close=handlers["close"],
        status=lambda: handlers["status"]({}),
        upstreams=lambda: {"upstreams": live.current.upstreams.reports()},
        rules=lambda: rulesShown(live, router.report()["rules"]),
        explain=explain,
        reload=lambda: handlers["reload"]({}),
        dns=lambda: {"queries": gateway.watched.look()},
        log=lambda limit: {"lines": tail.lines(limit)},
        config=lambda: configShown(live, config),
    )
    settings = live.current.settings
    return WebServer(
        settings.web, settings.runDir, daemon, EventSources(traffic, each, tail.lines), reactor
    )


def addressesOf(names: INames, question: Question) -> Deferred[list[str]]:
    """
    The addresses of a question's host name, as the relay finds them.

    @raise RunningError: there is none.
    """
    try:
        name = checkName(comparable(question.host).encode())
    except ValueError:
        name = ""
    if not name:
        raise RunningError(f"{question.host} is no name that can be looked up.")
    families = [4, 6]
    if question.source:
        families = [6 if ":" in question.source else 4]

    def found(results: Iterable[tuple[bool, Any]]) -> list[str]:
        addresses = [each for good, hosts in results if good for each in hosts]
        if not addresses:
            raise RunningError(
                f"{question.host} cannot be looked up; give an address to leave DNS out of it."
            )
        return addresses[:ADDRESS_LIMIT]

    asked = [names.resolve(name, family) for family in families]
    return DeferredList(asked, consumeErrors=True).addCallback(found)


def rulesShown(live: Live, counts: Mapping[str, int]) -> dict[str, Any]:
    """
    The rules in force; see L{nanotun.web.api.Api.rules}.

    @param counts: flows by the names of rules.
    """
    settings = live.current.settings
    written = live.read.written.get("rules", Given((), ""))
    entries = written.value if isinstance(written.value, list) else []
    # What has been written since may wait for a restart.
    placed = {written.place((number,)): entry for number, entry in enumerate(entries)}
    return {
        "rules": [
            {**rule, "when": _conditions(placed.get(rule["where"]))}
            for rule in userRules(settings, counts)
        ],
        "counts": dict(counts),
        "default": settings.default,
    }


def _conditions(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        return {}
    return {name: masked(value) for name, value in entry.items() if name != "to"}


def configShown(live: Live, config: str) -> dict[str, Any]:
    """
    The settings as they are written; see L{nanotun.web.api.Api.config}.

    @param config: the file's path, or the empty string.
    """
    written, read, settings = live.read.written, live.read.settings, live.current.settings
    shown = []
    for key in KEYS.values():
        given = written.get(key.name)
        shown.append(
            {
                "name": key.name,
                "value": masked(key.default if given is None else given.value),
                "where": "" if given is None else given.place(),
                "live": key.live,
                "waits": getattr(read, key.name) != getattr(settings, key.name),
            }
        )
    return {"file": config or None, "settings": shown}


def masked(value: object) -> Any:
    """A value as JSON has it, without what is before an @: that may be a password."""
    if isinstance(value, dict):
        return {str(masked(str(key))): masked(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked(each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    # A password may have blanks of other scripts than ASCII.
    return re.sub(r"[^\s/]*@", "***@", str(value), flags=re.ASCII)
