"""
The metrics: a real Prometheus asks a daemon for them.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest

from nanotun.rundir import METRICS_TOKEN
from tests.e2e.case import TunnelCase
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import PATIENCE, run, waitUntil
from tests.e2e.lab.prometheus import Prometheus

WHERE = "127.0.0.1:9198"

BYTES = 100_000

#: Another user.
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def echo(sock: socket.socket) -> None:
    """Send back what arrives."""
    while data := sock.recv(65536):
        sock.sendall(data)


class MetricsTests(TunnelCase):
    """A daemon and those who watch it."""

    def setUp(self) -> None:
        """A directory that others may look into, as into /run."""
        super().setUp()
        if shutil.which("prometheus") is None or shutil.which("promtool") is None:
            raise SkipTest("prometheus is not installed")
        self.runDir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.runDir, True)
        os.chmod(self.runDir, 0o755)
        self.token = Path(self.runDir, METRICS_TOKEN)

    def watched(self, **settings: object) -> Daemon:
        """A daemon with metrics."""
        return self.tunnel(metrics=WHERE, runDir=self.runDir, **settings)

    def scrape(self, *options: str, prefix: tuple[str, ...] = (), token: str | None = None) -> str:
        """What curl gets, and at its end the status."""
        token = self.token.read_text().strip() if token is None else token
        header = ["-H", f"Authorization: Bearer {token}"] if token else []
        argv = ["curl", "-sS", "-w", "\n%{http_code}", *header, *options, f"http://{WHERE}/metrics"]
        return self.lab.app.run([*prefix, *argv]).stdout

    def carry(self) -> None:
        """Three connections carry bytes there and back, and stay open."""
        peer = self.peer(echo)
        for _ in range(3):
            sock = self.connect(peer.port)
            sock.sendall(b"x" * BYTES)
            self.assertArrives(sock, BYTES)

    def test_prometheus(self) -> None:
        """
        A real Prometheus takes every metric of the page, with right values, and the alert rules.
        """
        daemon = self.watched()
        self.carry()
        prometheus = Prometheus(self.lab.app, self.directory, WHERE, self.token)
        self.addCleanup(prometheus.stop)

        def up() -> bool:
            return prometheus.ask('up{job="nanotun"}') == [1.0]

        waitUntil(up, PATIENCE, "Prometheus has scraped the daemon")
        for query, expected in (
            ('nanotun_flows_open{protocol="tcp"}', 3),
            ("nanotun_flows_total", 3),
            ('nanotun_bytes_total{direction="down"}', 3 * BYTES),
            ('nanotun_decisions_total{verdict="proxy",upstream="proxy"}', 3),
            ('nanotun_dial_seconds_count{upstream="proxy"}', 3),
            ("nanotun_upstream_up", 1),
            ("nanotun_build_info", 1),
        ):
            self.assertEqual(prometheus.ask(query), [expected], query)
        self.assertTrue(0 < prometheus.ask("nanotun_dial_seconds_sum")[0] < 20)
        lines = self.scrape().splitlines()[:-1]
        names = {re.split("[{ ]", line)[0] for line in lines if line and line[0] != "#"}
        self.assertGreater(len(names), 40)
        self.assertEqual(names - prometheus.names(), set())
        self.assertEqual(prometheus.brokenRules(), [])
        self.assertEndsWell(daemon)

    def test_promtool(self) -> None:
        """promtool finds nothing to say about the page."""
        self.watched()
        self.carry()
        page, _, status = self.scrape().rpartition("\n")
        self.assertEqual(status, "200")
        self.assertEqual(run(["promtool", "check", "metrics"], stdin=page).stdout, "")

    def test_otherUser(self) -> None:
        """
        Another user of the machine can neither read the token nor get anything without it.
        """
        self.watched()
        stolen = run([*NOBODY, "cat", str(self.token)], check=False)
        self.assertNotEqual(stolen.returncode, 0)
        self.assertIn("Permission denied", stolen.stdout)
        for token in ("", "guessed-by-somebody"):
            answer = self.scrape(prefix=NOBODY, token=token)
            self.assertTrue(answer.endswith("\n401"), answer)
            self.assertNotIn("nanotun_", answer)
        # Whom root has given the token gets the page.
        self.assertIn("nanotun_flows_open", self.scrape(prefix=NOBODY))

    def test_secrets(self) -> None:
        """A proxy that does not answer is shown as down, and its password is not shown."""
        proxy = f"socks5://me:hunter2@{self.family.proxy}:1"
        self.daemon(proxy=proxy, metrics=WHERE, runDir=self.runDir)
        self.connectError(80)
        page = self.scrape()
        self.assertRegex(
            page, r'nanotun_upstream_up\{proxy="socks5://[^"]+:1",upstream="proxy"\} 0'
        )
        self.assertRegex(
            page, r'nanotun_dial_failures_total\{cause="upstream",upstream="proxy"\} 1'
        )
        self.assertNotIn("hunter2", page)

    def test_rebinding(self) -> None:
        """A page of the web whose name leads here gets nothing, not even with the token."""
        self.watched()
        answer = self.scrape("-H", "Host: evil.example:9198")
        self.assertTrue(answer.endswith("\n403"), answer)
        self.assertNotIn("nanotun_", answer)

    def test_restart(self) -> None:
        """The token of the last start is good after a restart, and not shown in the log."""
        daemon = self.watched()
        token = self.token.read_text().strip()
        self.assertEndsWell(daemon)
        again = self.watched()
        self.assertTrue(self.scrape(token=token).endswith("\n200"))
        self.assertNotIn(token, daemon.log() + again.log())

    def test_taken(self) -> None:
        """Where somebody else listens already, the tunnel works and the log says so."""
        peer = self.peer(echo, self.lab.app)
        daemon = self.tunnel(metrics=f"127.0.0.1:{peer.port}", runDir=self.runDir)
        self.carry()
        self.assertIn("The metrics cannot be served", daemon.log())
