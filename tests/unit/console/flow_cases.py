"""
A daemon with flows, for tests of C{nanotun flows}, C{top} and C{close}.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

from nanotun.control.client import Client
from nanotun.control.messages import REQUEST_LIMIT, errorLine, readRequest, resultLine
from nanotun.errors import RunningError
from tests.unit.console.test_console import ConsoleCase

#: Its clock, seconds since 1970.
NOW = 1_795_000_000.5


def described(id: int, **changed: Any) -> dict[str, Any]:
    """A flow as the daemon describes it (docs/flows.md): one of curl's."""
    flow = {
        "id": id,
        "protocol": "tcp",
        "state": "open",
        "age": 10.0,
        "idle": 0.5,
        "source": f"198.18.0.2:{40000 + id}",
        "destination": "192.0.2.80:443",
        "domain": "www.example.org",
        "verdict": "proxy",
        "rule": "#2",
        "upstream": "office",
        "by": "socks5://10.0.0.5:1080",
        "process": {
            "pid": 4711,
            "uid": 0,
            "name": "curl",
            "path": "/usr/bin/curl",
            "unit": "session-3.scope",
        },
        "up": 1000,
        "down": 200_000,
    }
    assert set(changed) <= set(flow)
    return {**flow, **changed}


def undecided(id: int) -> dict[str, Any]:
    """A flow that waits for its decision."""
    return described(
        id,
        state="waiting",
        domain=None,
        verdict=None,
        rule=None,
        upstream=None,
        by=None,
        process=None,
        up=0,
        down=0,
    )


class ListingDaemon:
    """
    Answers on a control socket, in a thread.

    @ivar flows: those that are open.
    @ivar asked: the arguments of each request, with its name before them.
    @ivar trouble: the error that is answered instead, if any.
    """

    def __init__(self, runDir: Path) -> None:
        self.flows: list[dict[str, Any]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.trouble = ""
        runDir.mkdir(parents=True)
        self._listener = socket.socket(socket.AF_UNIX)
        fd = os.open(runDir, os.O_PATH)
        self._listener.bind(f"/proc/self/fd/{fd}/control.sock")
        os.close(fd)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        # accept(2) of a socket that is merely closed would go on.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    connection.sendall(self._answer(line) + b"\n")

    def _answer(self, line: bytes) -> bytes:
        if len(line) > REQUEST_LIMIT:
            return errorLine("This is too long.")
        try:
            name, arguments = readRequest(line)
        except RunningError as error:
            return errorLine(str(error))
        self.asked.append((name, arguments))
        if self.trouble:
            return errorLine(self.trouble)
        if name == "close":
            before = len(self.flows)
            self.flows = [flow for flow in self.flows if flow["id"] not in arguments["ids"]]
            return resultLine({"closed": before - len(self.flows)})
        after, limit = arguments["after"], arguments["limit"]
        page = [flow for flow in self.flows if flow["id"] > after][:limit]
        more = bool(page) and page[-1]["id"] < self.flows[-1]["id"]
        return resultLine({"flows": page, "next": page[-1]["id"] if more else None, "now": NOW})


class FlowsCase(ConsoleCase):
    """Runs words that ask L{ListingDaemon}."""

    def setUp(self) -> None:
        self.runDir = Path(self.mktemp()).resolve()
        self.daemon = ListingDaemon(self.runDir)
        self.addCleanup(self.daemon.stop)
        self.daemon.flows = [
            described(1),
            described(2, domain=None, destination="[2001:db8::7]:22", rule="default"),
            undecided(5),
            described(9, protocol="udp", upstream="direct", by="direct", rule="#1", up=7, down=0),
        ]

    def where(self) -> list[str]:
        """The options that name the daemon."""
        return ["--run-dir", str(self.runDir)]

    def objects(self, text: str) -> list[dict[str, Any]]:
        """The JSON objects in some lines."""
        return [json.loads(line) for line in text.splitlines()]


class AnotherClient(Client):
    """Asks a daemon that was started again."""

    def __init__(self, runDir: str) -> None:
        super().__init__(runDir)
        self.pid += 1
