"""
A made-up daemon's answers, for tests of the pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed

from nanotun.web.api import Api, DaemonSide

#: A text that would leave its place if it were not escaped.
HOSTILE = "\"'><script>alert(1)</script>&amp;"

CSRF = "the-secret"

PROCESS = {"pid": 4711, "uid": 1000, "name": "curl", "path": "/usr/bin/curl", "unit": "a.service"}

FLOW: dict[str, Any] = {
    "id": 17,
    "protocol": "tcp",
    "state": "open",
    "age": 10.0,
    "idle": 0.2,
    "source": "198.18.0.2:51234",
    "destination": "93.184.216.34:443",
    "domain": "example.com",
    "verdict": "proxy",
    "rule": "#2",
    "upstream": "office",
    "by": "socks5://10.0.0.5:1080",
    "process": PROCESS,
    "up": 2048,
    "down": 10 << 20,
}

#: A flow that waits for its decision.
WAITING = {
    **FLOW,
    **dict.fromkeys(("domain", "verdict", "rule", "upstream", "by", "process")),
    "id": 18,
    "state": "waiting",
    "up": 0,
    "down": 0,
}

PROXY = {
    "url": "socks5://10.0.0.5:1080",
    "health": "down",
    "trouble": "The proxy refuses connections.",
    "state": "open",
    "latency": 0.0134,
    "udp": None,
    "udpNames": None,
    "pool": {"idle": 2, "dialling": 0},
}

UPSTREAMS = {"office": {"policy": "failover", "via": "proxy", "programs": None, "proxies": [PROXY]}}

STATUS: dict[str, Any] = {
    "daemon": {"version": "1.0", "pid": 17, "uptime": 61.0, "config": "/etc/n.yaml"},
    "upstreams": UPSTREAMS,
    "engine": {
        "flows": {"open": 14, "total": 1400},
        "bytes": {"up": 1024, "down": 2048},
        "datagrams": {"flows": 3},
        "drops": {"write": 1, "stack": 4},
    },
    "dns": {"queries": 1234},
    "verdicts": {"verdicts": {"proxy": 1000, "direct": 0}},
}

RULES: dict[str, Any] = {
    "rules": [
        {
            "rule": "#1",
            "to": "office",
            "where": "n.yaml:3",
            "flows": 5,
            "when": {"domains": ["a.org"]},
        }
    ],
    "counts": {"#1": 5, "default": 7},
    "default": "proxy",
}

DNS = {
    "queries": [
        {
            "time": 0.0,
            "name": "example.org",
            "type": "AAAA",
            "status": "NXDOMAIN",
            "stage": "asked",
            "server": "192.0.2.53:53",
            "seconds": 0.02,
        },
        {
            "time": 0.0,
            "name": "example.net",
            "type": "A",
            "status": None,
            "stage": "cache",
            "server": None,
            "seconds": None,
        },
    ]
}

LOG = {
    "lines": [
        {"number": 3, "time": 0.0, "level": "warn", "namespace": "nanotun.x", "text": "Oh dear."}
    ]
}

CONFIG: dict[str, Any] = {
    "settings": [
        {
            "name": "proxy",
            "value": "socks5://h",
            "where": "/etc/n.yaml, line 1",
            "live": True,
            "waits": False,
        },
        {"name": "dns", "value": ["a", 1], "where": "", "live": False, "waits": True},
    ],
    "file": "/etc/n.yaml",
}

ANSWER: dict[str, Any] = {
    "protocol": "tcp",
    "destination": "example.org:443",
    "name": "example.org",
    "source": "",
    "process": "",
    "verdict": "proxy",
    "meaning": "through office",
    "upstream": "office",
    "rule": "#1",
    "where": "n.yaml:3",
    "reason": "its name is example.org",
    "trouble": "",
    "script": None,
    "steps": [
        {"rule": "#1", "where": "n.yaml:3", "to": "office", "value": "yes", "why": "its name"}
    ],
    "notes": ["A name could change this."],
}


def hostile(value: Any) -> Any:
    """A value with a hostile text in the place of every text."""
    if isinstance(value, str):
        return f"{HOSTILE}{value}"
    if isinstance(value, dict):
        return {key: hostile(each) for key, each in value.items()}
    return [hostile(each) for each in value] if isinstance(value, list) else value


def makeApi(
    flows: list[dict[str, Any]] | None = None,
    asked: list[Mapping[str, Any]] | None = None,
    change: Callable[[Any], Any] = lambda value: value,
    explained: Callable[[], Any] = lambda: ANSWER,
) -> Api:
    """
    An API with a daemon's answers.

    @param asked: gets the questions to C{explain}.
    @param change: called with each answer.
    """

    def each(take: Callable[[Any], object]) -> Deferred[None]:
        for flow in [FLOW, WAITING] if flows is None else flows:
            take(change(flow))
        return succeed(None)

    def explain(question: Mapping[str, Any]) -> Any:
        if asked is not None:
            asked.append(question)
        return change(explained())

    daemon = DaemonSide(
        flows=lambda arguments: {},
        each=each,
        close=lambda arguments: {},
        status=lambda: succeed(change(STATUS)),
        upstreams=lambda: {"upstreams": change(UPSTREAMS)},
        rules=lambda: change(RULES),
        explain=explain,
        reload=dict,
        dns=lambda: change(DNS),
        log=lambda lines: change(LOG),
        config=lambda: change(CONFIG),
    )
    return Api(daemon, CSRF)
