"""
The API, asked by curl in a daemon's own network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

from nanotun.rundir import WEB_TOKEN
from tests.e2e.case import TunnelCase
from tests.e2e.lab import nameserver
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import PATIENCE, run, waitUntil
from tests.e2e.lab.topology import IPV4
from tests.openapi import answerOf, schemaOf, wrongIn

WHERE = "127.0.0.1:8198"

#: Another user.
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

BYTES = 100_000

SECRET = "s3cr3t-of-the-proxy"


def swallow(sock: socket.socket) -> None:
    """Send back what arrives."""
    while data := sock.recv(65536):
        sock.sendall(data)


class Fetched(NamedTuple):
    """What curl gets."""

    status: int
    body: str

    def json(self) -> Any:
        """The object in it."""
        return json.loads(self.body)


class WebApiTests(TunnelCase):
    """A daemon with the setting C{web}."""

    def setUp(self) -> None:
        """A directory that others may look into, as into /run."""
        super().setUp()
        self.runDir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.runDir, True)
        os.chmod(self.runDir, 0o755)
        self.where = WHERE

    def shown(self, where: str = WHERE, **settings: object) -> Daemon:
        """A daemon with a web page."""
        self.where = where
        return self.tunnel(web=where, runDir=self.runDir, **settings)

    def token(self) -> str:
        """The token."""
        return Path(self.runDir, WEB_TOKEN).read_text().strip()

    def curl(
        self, path: str, *options: str, prefix: tuple[str, ...] = (), token: str | None = None
    ) -> Fetched:
        """What curl gets."""
        given = self.token() if token is None else token
        header = ["-H", f"Authorization: Bearer {given}"] if given else []
        by = ["--unix-socket", self.where] if self.where.startswith("/") else []
        host = "localhost" if by else self.where
        argv = ["curl", "-sS", "-m", "60", "-w", "\n%{http_code}", *by, *header, *options]
        out = self.lab.app.run([*prefix, *argv, f"http://{host}{path}"], check=False).stdout
        body, _, status = out.rpartition("\n")
        return Fetched(int(status) if status.isdigit() else 0, body)

    def get(self, name: str) -> Any:
        """What a call of the API answers, as it is described."""
        return self.described(self.curl(f"/api/v1/{name}"), "get", name.partition("?")[0])

    def post(self, name: str, body: object) -> Any:
        """What a call that changes something answers, as it is described."""
        return self.described(self.curl(f"/api/v1/{name}", "-d", json.dumps(body)), "post", name)

    def described(self, answer: Fetched, method: str, name: str) -> Any:
        """An answer, which must be as the description says."""
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual([*wrongIn(answer.json(), answerOf(method, f"/{name}"), name)], [])
        self.assertNotIn(SECRET, answer.body)
        self.assertNotIn(self.token(), answer.body)
        return answer.json()

    def carry(self) -> socket.socket:
        """A connection that carries bytes there and back, and stays open."""
        sock = self.connect(self.peer(swallow).port)
        sock.sendall(b"x" * BYTES)
        self.assertArrives(sock, BYTES)
        return sock

    def test_calls(self) -> None:
        """Every call answers: the flow is there with its program, and no answer has a password."""
        rule = {"to": "spare", "networks": ["192.0.2.0/24"]}
        daemon = self.shown(
            upstreams={"spare": f"socks5://me:{SECRET}@192.0.2.99:1080"}, rules=[rule]
        )
        self.carry()

        def found() -> bool:
            (flow,) = self.get("flows")["flows"]
            return flow["process"] is not None

        waitUntil(found, PATIENCE, "the program of the flow is known")
        (flow,) = self.get("flows")["flows"]
        self.assertEqual((flow["up"], flow["down"], flow["state"]), (BYTES, BYTES, "open"))
        self.assertEqual(flow["process"]["pid"], os.getpid())
        status = self.get("status")
        self.assertEqual(status["engine"]["flows"]["open"], 1)
        self.assertIn("proxy", self.get("upstreams")["upstreams"])
        (told,) = self.get("rules")["rules"]
        self.assertEqual((told["to"], told["when"]), ("spare", {"networks": rule["networks"]}))
        self.assertEqual(self.get("dns"), {"queries": []})
        nameserver.ask(self.lab.app, IPV4.gateway, "nobody.lab", "A")
        (query,) = self.get("dns")["queries"]
        self.assertEqual((query["name"], query["type"]), ("nobody.lab", "A"))
        self.assertTrue(self.get("log?lines=5")["lines"])
        settings = {each["name"]: each for each in self.get("config")["settings"]}
        self.assertEqual(settings["web"]["value"], WHERE)
        self.assertRegex(settings["web"]["where"], ", line [0-9]+$")
        self.assertIn("***@192.0.2.99", json.dumps(settings["upstreams"]["value"]))
        explained = self.post("explain", {"destination": "192.0.2.7:443", "process": "curl"})
        self.assertEqual((explained["rule"], explained["process"]), ("#1", "curl"))
        self.assertEqual(self.post("reload", {})["changed"], [])
        self.get("openapi.json")
        self.assertEndsWell(daemon)

    def test_close(self) -> None:
        """A flow that is closed by the API ends at once; one that is not there is not counted."""
        self.shown()
        sock = self.carry()
        (flow,) = self.get("flows")["flows"]
        self.assertEqual(self.curl(f"/api/v1/flows/close?ids={flow['id']}").status, 405)
        closed = self.post("flows/close", {"ids": [flow["id"], flow["id"] + 1]})
        self.assertEqual(closed, {"closed": 1})
        self.assertRaises(ConnectionResetError, sock.recv, 1)
        self.assertEqual(self.get("flows")["flows"], [])

    def test_otherUser(self) -> None:
        """Another user of the machine gets neither the token nor anything without it."""
        self.shown()
        stolen = run([*NOBODY, "cat", str(Path(self.runDir, WEB_TOKEN))], check=False)
        self.assertIn("Permission denied", stolen.stdout)
        for path in ("/", "/flows", "/static/page.js", "/api/v1/flows", "/api/v1/events", "/x"):
            for token in ("", "guessed-by-somebody"):
                answer = self.curl(path, prefix=NOBODY, token=token)
                self.assertEqual(answer.status, 401, path)
        self.assertEqual(self.curl("/?token=guessed", prefix=NOBODY, token="").status, 401)

    def test_otherSites(self) -> None:
        """No other site can have a browser ask, by a name of its own or from its own page."""
        self.shown()
        for header in ("Host: evil.example", "Host: 127.0.0.2:8198", "Origin: http://evil.example"):
            for options in ((), ("-d", "{}")):
                answer = self.curl("/api/v1/status", "-H", header, *options)
                self.assertEqual(answer.status, 403, header)
        jar = str(self.directory / "cookies")
        entered = self.curl(f"/flows?token={self.token()}", "-c", jar, "-D", "-", token="")
        self.assertEqual(entered.status, 303)
        self.assertRegex(entered.body, "(?i)set-cookie: .*HttpOnly; SameSite=Strict")
        self.assertNotIn(self.token(), entered.body + Path(jar).read_text())
        self.assertEqual(self.curl("/flows", "-b", jar, token="").status, 200)
        reload = ("/api/v1/reload", "-b", jar, "-d", "")
        self.assertEqual(self.curl(*reload, token="").status, 403)
        self.assertEqual(self.curl(*reload, "-H", "X-Nanotun: 1", token="").status, 200)

    def test_events(self) -> None:
        """An open page is told of traffic, flows and lines of the log."""
        self.shown()
        self.carry()
        reloading = threading.Timer(1.0, lambda: self.post("reload", {}))
        reloading.start()
        self.addCleanup(reloading.join)
        told = self.curl("/api/v1/events", "-N", "-m", "4").body
        for topic, name in (("traffic", "Traffic"), ("flows", "FastFlows"), ("log", "LogLine")):
            data = [json.loads(each) for each in re.findall(f"event: {topic}\ndata: (.*)\n", told)]
            self.assertTrue(data, topic)
            for each in data:
                self.assertEqual([*wrongIn(each, schemaOf(name), topic)], [])
            if topic != "log":
                self.assertTrue(data[-1]["flows"])

    def test_socket(self) -> None:
        """On a unix socket it is the same, for root and nobody else."""
        path = str(Path(self.runDir, "web.sock"))
        daemon = self.shown(path)
        self.assertEqual(self.get("flows")["flows"], [])
        self.assertEqual(self.curl("/", prefix=NOBODY).status, 0)
        os.chmod(path, 0o666)
        self.assertEqual(self.curl("/", prefix=NOBODY).status, 0)
        self.assertEndsWell(daemon)
        self.assertFalse(os.path.lexists(path))

    def test_link(self) -> None:
        """C{nanotun web} prints the link that opens the page, and tells where there is none."""
        daemon = self.shown()
        done = say("web", "--run-dir", self.runDir)
        self.assertEqual(done.stdout, f"http://{WHERE}/?token={self.token()}\n", done.stderr)
        opened = self.curl(done.stdout.strip().removeprefix(f"http://{WHERE}"), token="")
        self.assertEqual(opened.status, 303)
        alone = say("web", "--token", "--run-dir", self.runDir)
        self.assertEqual(alone.stdout, f"{self.token()}\n")
        self.assertEndsWell(daemon)
        self.assertEqual(say("web", "--run-dir", self.runDir).returncode, 3)
        other = self.tunnel()
        done = say("web", "--run-dir", str(other.directory / "run"))
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("set web: 127.0.0.1:8198", done.stderr)
