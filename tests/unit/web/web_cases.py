"""
A site of the web page whose daemon is made up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import RunningError
from nanotun.flow import Endpoint
from nanotun.httpd.site import QuietSite
from nanotun.web.api import Api, DaemonSide
from nanotun.web.events import EventSources, EventStreams
from nanotun.web.guard import WebGuard
from nanotun.web.scan import eachFlow
from nanotun.web.site import WebRequest, WebRoot

WHERE = Endpoint("127.0.0.1", 8198)
TOKEN = "a-token-of-the-test"


def flowRow(number: int, up: int = 0, down: int = 0, age: float = 10.0) -> dict[str, Any]:
    """A flow as the daemon lists it."""
    return {"id": number, "up": up, "down": down, "age": age}


class Answered(NamedTuple):
    """
    What a client gets.

    @ivar headers: by their names in lower case.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The object in it."""
        return json.loads(self.body)


class Wire(StringTransport):
    """A connection that may be aborted."""

    aborted = False

    def abortConnection(self) -> None:
        """See L{ITCPTransport.abortConnection}."""
        self.aborted = True


class WebCase(SynchronousTestCase):
    """
    A site.

    @ivar asked: what the daemon was asked for, with the arguments.
    @ivar rows: the open flows.
    @ivar lines: of the log.
    @ivar carried: bytes up and down.
    """

    where: Endpoint | None = WHERE

    def setUp(self) -> None:
        """A daemon that does nothing."""
        self.clock = Clock()
        self.asked: list[tuple[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.lines: list[dict[str, Any]] = []
        self.carried = 0, 0
        self.waiting: Deferred[dict[str, Any]] | None = None
        self.daemon = DaemonSide(
            flows=self.flows,
            each=lambda take: eachFlow(self.flows, self.clock, take),
            close=self.note("close", lambda: {"closed": 1}),
            status=lambda: self.noted("status", {}, self.waiting or {"well": True}),
            upstreams=lambda: {"upstreams": {}},
            rules=lambda: {"rules": [], "counts": {}, "default": "proxy"},
            explain=self.note("explain", lambda: {"verdict": "proxy"}),
            reload=lambda: self.noted("reload", {}, self.reloaded()),
            dns=lambda: {"queries": []},
            log=lambda limit: self.noted("log", limit, {"lines": self.lines[-limit:]}),
            config=lambda: {"file": None, "settings": []},
        )
        self.streams = EventStreams(
            EventSources(self.traffic, self.daemon.each, self.newLines), self.clock
        )
        self.guard = WebGuard(TOKEN, self.where)
        self.api = Api(self.daemon, self.guard.csrf)
        self.site = QuietSite(WebRoot(self.guard, self.api, self.streams), self.clock, WebRequest)

    def noted(self, name: str, arguments: Any, answer: Any) -> Any:
        """Note that the daemon was asked."""
        self.asked.append((name, arguments))
        return answer

    def note(
        self, name: str, answer: Callable[[], dict[str, Any]]
    ) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """A handler that notes its arguments."""
        return lambda arguments: self.noted(name, arguments, answer())

    def flows(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A page of flows."""
        after, limit = arguments["after"], arguments["limit"]
        rows = [dict(each) for each in self.rows if each["id"] > after]
        following = rows[limit - 1]["id"] if len(rows) > limit else None
        return {"flows": rows[:limit], "next": following, "now": 1.0}

    def reloaded(self) -> dict[str, Any]:
        """What the daemon says of a reload."""
        return {"changed": ["rules"], "restart": [], "warnings": ["Something is odd."]}

    def traffic(self) -> tuple[int, int, int]:
        """What was carried."""
        self.asked.append(("traffic", None))
        return (*self.carried, len(self.rows))

    def newLines(self, limit: int, after: int) -> list[dict[str, Any]]:
        """Lines of the log."""
        return [each for each in self.lines if each["number"] > after][-limit:]

    def connect(self, head: str, **different: str | None) -> tuple[Wire, Any]:
        """
        Send a request's head with the usual headers, of which some may be different.

        @return: the connection, and the protocol at its end.
        """
        headers: dict[str, str | None] = {
            "host": "127.0.0.1:8198",
            "authorization": f"Bearer {TOKEN}",
            **{name.replace("_", "-"): value for name, value in different.items()},
        }
        lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        wire = Wire(peerAddress=IPv4Address("TCP", "127.0.0.1", 50000))
        protocol = self.site.buildProtocol(None)
        protocol.makeConnection(wire)
        protocol.dataReceived("\r\n".join([f"{head} HTTP/1.1", *lines, "", ""]).encode())
        return wire, protocol

    def ask(self, head: str, body: bytes = b"", **different: str | None) -> Answered:
        """Send a request and read its answer."""
        length = {"content_length": str(len(body))} if body else {}
        headers: dict[str, str | None] = {"connection": "close", **length, **different}
        wire, protocol = self.connect(head, **headers)
        protocol.dataReceived(body)
        return answered(wire.value())

    def get(self, path: str, **different: str | None) -> Answered:
        """Ask for something."""
        return self.ask(f"GET {path}", b"", **different)

    def form(self, path: str, text: str, **different: str | None) -> Answered:
        """Send a form as a browser does that has the cookie."""
        given: dict[str, Any] = {
            "authorization": None,
            "cookie": f"nanotun-8198={self.guard._value}",
            "content_type": "application/x-www-form-urlencoded",
            "origin": "http://127.0.0.1:8198",
            **different,
        }
        return self.ask(f"POST {path}", text.encode(), **given)

    def fail(self, *_: object) -> Any:
        """A daemon that cannot do it."""
        raise RunningError("That cannot be done.")


def answered(data: bytes) -> Answered:
    """Read an answer."""
    head, _, content = data.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    pairs = (each.split(": ", 1) for each in rest)
    headers = {name.lower(): value for name, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        content = b"".join(content.split(b"\r\n")[1::2])
    return Answered(int(first.split()[1]), headers, content)
