"""
C{nanotun flows}, C{top} and C{close} with a daemon that runs, beside a real download.
"""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.case import TunnelCase
from tests.e2e.lab import curl, nameserver
from tests.e2e.lab.console import nanotun, say
from tests.e2e.lab.daemon import Daemon, environment
from tests.e2e.lab.ordinary import needReadable
from tests.e2e.lab.process import dieWithParent, waitUntil
from tests.e2e.lab.topology import IPV4
from tests.e2e.lab.udp import echo
from tests.e2e.test_names import FAKES, NAME, world

#: Bytes of a download, and bytes of it in a second: it takes much longer than the test.
LENGTH, RATE = 1 << 30, "1M"

#: curl: the connection was reset.
RESET = 56

#: Seconds for what happens as soon as it is asked for.
SOON = 60.0

#: Seconds for curl to notice a reset: it slows itself down.
LATE = 60.0

#: As another user.
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")


class FlowsCommandTests(TunnelCase):
    """The commands.  It makes no difference which engine runs."""

    seconds = 150

    def setUp(self) -> None:
        """Start a daemon that sends one domain by an upstream of its own."""
        super().setUp()
        self.udpServer(world, IPV4, IPV4.world, nameserver.PORT)
        url = self.dante(hosts={NAME: [IPV4.world]}).url()
        self.web = self.webServer()
        self.tested: Daemon = self.daemon(
            proxy=url,
            upstreams={"office": url},
            rules=[{"to": "office", "domains": [NAME]}],
            dns=[IPV4.world],
            dnsMode="fake-ip",
            dnsStateFile=str(self.directory / "fakeip.json"),
        )
        nameserver.ask(self.lab.app, IPV4.gateway, NAME, "A")

    def where(self) -> list[str]:
        """The options that name the daemon."""
        return ["--run-dir", str(self.tested.directory / "run")]

    def command(self, *words: str, user: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run C{nanotun} in the daemon's network, as root or another user."""
        return say(*words, *self.where(), prefix=self.lab.app.argv(user))

    def flows(self, *filters: str) -> list[dict[str, Any]]:
        """What C{nanotun flows --json} lists."""
        done = self.command("flows", "--json", *filters)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        found: list[dict[str, Any]] = json.loads(done.stdout)["flows"]
        return found

    @contextmanager
    def downloading(self) -> Iterator[subprocess.Popen[bytes]]:
        """A download by curl, of a name."""
        path = f"/bytes/{LENGTH}"
        with curl.running(
            self.lab.app, NAME, FAKES[IPV4], self.web.port, path, "--limit-rate", RATE
        ) as child:
            waitUntil(lambda: any(each["down"] for each in self.flows()), SOON, "bytes")
            yield child

    def test_download(self) -> None:
        """
        A download has a line with its program, name, rule, upstream and bytes, though the daemon
        does not look at processes; close ends it by its program, and nothing else.
        """
        server = self.udpServer(echo, IPV4)
        app = self.datagrams(server.port)
        self.assertEchoes(app)
        with self.downloading() as program:
            (flow,) = self.flows("--process", "curl")
            process = flow["process"]
            self.assertEqual((process["pid"], process["uid"]), (program.pid, os.geteuid()))
            self.assertEqual(process["path"], os.path.realpath(process["path"]))
            self.assertEqual(
                (flow["domain"], flow["rule"], flow["upstream"]), (NAME, "#1", "office")
            )
            self.assertGreater(flow["rateDown"], 0)
            text = self.command("flows", "--domain", NAME).stdout.splitlines()
            self.assertEqual(len(text), 2)
            self.assertRegex(
                text[1], rf"  tcp +open .* curl {program.pid} .*  {NAME}:{self.web.port} "
            )
            mine = self.flows("--process", str(os.getpid()))
            self.assertEqual([each["protocol"] for each in mine], ["udp"])
            text = self.command("top").stdout.splitlines()
            self.assertRegex("\n".join(text), r"(?m)^curl +1 +\d+B +[\d.]+[BKM] ")
            done = self.command("close", "--process", "curl")
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("1 flow would be closed, and nobody can be asked here", done.stderr)
            done = self.command("close", "--process", "curl", "--yes")
            self.assertEqual((done.returncode, done.stdout), (0, "Closed 1 flow.\n"), done.stderr)
            self.assertEqual(program.wait(LATE), RESET)
        self.assertEqual([each["id"] for each in self.flows()], [mine[0]["id"]])
        done = self.command("close", str(flow["id"]))
        self.assertEqual((done.returncode, done.stdout), (1, "That flow is not open.\n"))
        self.assertEchoes(app)

    def test_watched(self) -> None:
        """On a terminal the list follows what happens, until a key ends it."""
        mine, terminal = pty.openpty()
        self.addCleanup(os.close, mine)
        said = ""

        def waitFor(text: str) -> None:
            nonlocal said
            end = time.monotonic() + SOON
            while text not in said:
                if time.monotonic() > end:
                    self.fail(f"no {text!r} in {said!r}")
                if select.select([mine], [], [], 1)[0]:
                    said += os.read(mine, 65536).decode("utf-8", "replace")
            said = said.partition(text)[2]

        watcher = subprocess.Popen(
            self.lab.app.argv(nanotun("flows", "--watch", "0.3", *self.where())),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            preexec_fn=dieWithParent,
            env={**environment(), "TERM": "xterm", "COLUMNS": "150", "LINES": "30"},
        )
        os.close(terminal)
        self.addCleanup(watcher.wait)
        self.addCleanup(watcher.kill)
        waitFor("No flow is open.")
        with self.downloading() as program:
            waitFor(f"curl {program.pid}")
            waitFor(f"{NAME}:")  # a longer process's number leaves less room for the port
            waitFor("1 flow is open.")
            self.command("close", "--domain", NAME, "--yes")
            waitFor("No flow is open.")
        os.write(mine, b"q")
        self.assertEqual(watcher.wait(SOON), 0)

    def test_another(self) -> None:
        """Another user of the machine sees nothing and closes nothing."""
        needReadable()
        with self.downloading() as program:
            (flow,) = self.flows()
            for words in (("flows",), ("flows", "--json"), ("top",), ("close", str(flow["id"])),
                          ("close", "--process", "curl", "--yes")):  # fmt: skip
                done = self.command(*words, user=NOBODY)
                self.assertEqual((done.returncode, done.stdout), (1, ""), words)
                self.assertRegex(done.stderr, r"^nanotun: Only root may ask .*with sudo\.\n$")
            self.assertIs(program.poll(), None)
            self.assertEqual([each["id"] for each in self.flows()], [flow["id"]])
