"""
The record of flows that have ended, and C{nanotun history}, which reads it.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon, launch
from tests.e2e.lab.process import Child, waitUntil
from tests.e2e.lab.udp import echo
from tests.e2e.test_reload import echo as streamEcho

#: Seconds until a flow that has ended is in the file, and more for a busy machine.
WRITTEN = 60.0

#: Bytes of a download.
LENGTH = 100_000

#: A file system without room for a history.
SMALL = 'mount -t tmpfs -o size=16k none {place} && exec "$@"'


class CrampedDaemon(Daemon):
    """A daemon that sees a tiny file system at C{small} in its directory, and nobody else does."""

    def launched(self, settings: Mapping[str, object]) -> Child:
        """See L{Daemon.launched}."""
        place = self.directory / "small"
        place.mkdir(parents=True)
        prefix = ["unshare", "-m", "sh", "-c", SMALL.format(place=place), "sh"]
        return launch(self._namespace, self.directory, settings, prefix=prefix)


class HistoryChecks(TunnelCase):
    """A daemon that records."""

    seconds = 120

    def setUp(self) -> None:
        """The file, which all daemons of a test share."""
        super().setUp()
        self.path = self.directory / "flows.db"

    def history(self, *words: str) -> dict[str, Any]:
        """What C{nanotun history --json} says."""
        done = say("history", "--json", "--file", str(self.path), *words)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def flows(self, *words: str) -> list[dict[str, Any]]:
        """The single flows, once there is a file."""
        if not self.path.exists() or not self.path.stat().st_size:
            return []
        flows: list[dict[str, Any]] = self.history(*words)["flows"]
        return flows

    def totals(self, by: str) -> dict[str | None, int]:
        """How many flows C{--by} counts."""
        return {each["name"]: each["flows"] for each in self.history("--by", by)["totals"]}

    def curl(self, port: int) -> None:
        """Download something."""
        url = f"http://{self.family.world}:{port}/bytes/{LENGTH}"
        self.lab.app.run(["curl", "-q", "-sS", "--noproxy", "*", "-o", "/dev/null", url])

    def recording(self, **settings: object) -> Daemon:
        """A daemon that would not look for programs otherwise."""
        return self.tunnel(flowLog=str(self.path), **settings)

    def test_restart(self) -> None:
        """
        A download is recorded with its program, way and bytes, datagrams, too, and what was open
        at the stop; after a restart more is added, and the totals have all.
        """
        web, peer = self.webServer(), self.peer(streamEcho)
        server = self.udpServer(echo, self.family)
        daemon = self.recording(udpTimeout="1s")
        self.curl(web.port)
        waitUntil(self.flows, WRITTEN, "the download is recorded")
        (flow,) = self.flows("--process", "curl")
        self.assertEqual(flow["destination"], f"{self.family.world}:{web.port}")
        told = {key: flow[key] for key in ("protocol", "verdict", "upstream", "rule", "end")}
        self.assertEqual(
            told,
            {
                "protocol": "tcp",
                "verdict": "proxy",
                "upstream": "proxy",
                "rule": "default",
                "end": "closed",
            },
        )
        self.assertRegex(flow["by"], r"^socks5://10\.77\.1\.1:\d+$")
        self.assertGreater(flow["down"], LENGTH)
        self.assertTrue(0 < flow["up"] < LENGTH)
        process = flow["process"]
        self.assertEqual((process["name"], process["uid"]), ("curl", 0))
        self.assertEqual(os.path.basename(process["path"]), "curl")
        done = say("status", "--json", "--run-dir", str(daemon.directory / "run"))
        status = json.loads(done.stdout)["history"]
        self.assertEqual((status["file"], status["recorded"]), (str(self.path), 1))
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEchoes(self.datagrams(server.port))
        waitUntil(lambda: len(self.flows()) == 2, WRITTEN, "the datagrams are recorded")
        self.assertEqual([each["protocol"] for each in self.flows()], ["udp", "tcp"])
        sock = self.connect(peer.port)
        self.assertEchoes(sock)
        self.assertEndsWell(daemon)
        self.assertFalse(Path(f"{self.path}-wal").exists(), "it was not closed")
        last = self.flows()[0]
        told = {key: last[key] for key in ("end", "up", "down", "upstream")}
        self.assertEqual(told, {"end": "stop", "up": 13, "down": 13, "upstream": "proxy"})
        self.assertEqual(sum(self.totals("day").values()), 3)
        again = self.recording()
        self.curl(web.port)
        waitUntil(lambda: len(self.flows()) == 4, WRITTEN, "the second daemon records")
        self.assertEqual(self.totals("upstream"), {"proxy": 4})
        self.assertEqual(self.totals("process")["curl"], 2)
        self.assertEndsWell(again)

    def test_killed(self) -> None:
        """After kill -9 what was written is there, and the next daemon goes on with it."""
        web = self.webServer()
        daemon = self.recording()
        self.curl(web.port)
        waitUntil(self.flows, WRITTEN, "the download is recorded")
        daemon.kill()
        self.assertEqual(self.totals("process"), {"curl": 1})
        with sqlite3.connect(self.path) as connection:
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        connection.close()
        again = self.recording()
        self.curl(web.port)
        waitUntil(lambda: len(self.flows()) == 2, WRITTEN, "the second daemon records")
        self.assertEndsWell(again, signal.SIGINT)

    def test_full(self) -> None:
        """On a full disk flows are carried as ever; one line tells of it, and the stop in time."""
        web = self.webServer()
        directory = self._daemonDirectory()
        daemon = CrampedDaemon(
            self.lab.app,
            directory,
            stackMode=self.stackMode,
            proxy=self.dante().url(),
            flowLog=str(directory / "small" / "flows.db"),
        )
        self.addCleanup(self._checkLog, daemon)
        self.addCleanup(daemon.kill)
        self.lab.routeThroughTunnel(daemon.name)
        sentence = "Flows cannot be recorded in"
        waitUntil(lambda: sentence in daemon.log(), WRITTEN, "it is told")
        for _ in range(3):
            self.curl(web.port)
        self.assertEndsWell(daemon)
        lines = {line for line in daemon.log().splitlines() if sentence in line}
        (line,) = lines
        self.assertIn("full", line)
        self.assertIn("Flows that were not recorded", daemon.log())


engines(globals(), HistoryChecks)
del HistoryChecks
