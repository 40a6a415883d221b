"""
A configuration that is read again while the daemon runs.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import socket
from typing import Any

from tests.e2e.case import TunnelCase
from tests.e2e.lab import pattern
from tests.e2e.lab.console import endIfThere, say
from tests.e2e.lab.daemon import Daemon, collectLogs, writeConfig
from tests.e2e.lab.host import HOST4, HOST6
from tests.e2e.lab.nameserver import ask
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.topology import IPV4, IPV6, TUN_NAME
from tests.e2e.routes_case import FOLLOWED, RoutesCase

#: The number of downloads in progress, and the bytes of each, which exceed all buffers on the
#: path.
DOWNLOADS = 64
LENGTH = 8 * 1024 * 1024 + 5
EARLY = 1024 * 1024


def sendPattern(sock: socket.socket) -> None:
    """Send one download, however long it takes as a whole."""
    sock.settimeout(None)
    sock.sendall(memoryview(pattern.block())[:LENGTH])


def echo(sock: socket.socket) -> None:
    """Send back what arrives."""
    while data := sock.recv(65536):
        sock.sendall(data)


class Download:
    """One download, read piece by piece."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._digest = hashlib.sha256()
        self.count = 0

    def read(self, until: int) -> None:
        """Read until there are so many bytes in total."""
        while self.count < until and (data := self._sock.recv(min(65536, until - self.count))):
            self.count += len(data)
            self._digest.update(data)

    def whole(self) -> bool:
        """Whether every byte is as it was sent."""
        return self._digest.hexdigest() == pattern.sha256(LENGTH)


class ReloadTests(TunnelCase):
    """A daemon that gets another configuration."""

    seconds = 120

    def microsocks(self) -> Microsocks:
        """Start another proxy."""
        server = Microsocks(self.lab.proxy, self.directory)
        self.addCleanup(server.stop)
        return server

    def change(self, daemon: Daemon, **settings: object) -> None:
        """Write another configuration file."""
        writeConfig(daemon.directory, {"stackMode": self.stackMode, **settings})

    def reload(self, daemon: Daemon) -> tuple[int, str, str]:
        """The status and output of C{nanotun reload}."""
        done = say("reload", "--run-dir", str(daemon.directory / "run"))
        return done.returncode, done.stdout, done.stderr

    def status(self, daemon: Daemon) -> Any:
        """The daemon's report."""
        return json.loads(say("status", "--json", "--run-dir", f"{daemon.directory}/run").stdout)

    def test_underLoad(self) -> None:
        """
        64 downloads continue undamaged while the proxy, rules and the log level change; new
        flows use the new settings.
        """
        peer, closed = self.peer(sendPattern), self.peer(echo)
        dante, other = self.dante(), self.microsocks()
        daemon = self.daemon(proxy=dante.url())
        downloads = [Download(self.connect(peer.port)) for _ in range(DOWNLOADS)]
        for download in downloads:
            download.read(EARLY)
        connects = len(dante.connects())
        self.change(daemon, proxy=other.url(), lanOnlyPorts=f"tcp:{closed.port}", logLevel="debug")
        self.assertEqual(self.reload(daemon), (0, "Changed: proxy, lanOnlyPorts, logLevel.\n", ""))
        late = Download(self.connect(peer.port))
        late.read(LENGTH)
        self.assertTrue(late.whole())
        self.assertEqual(len(dante.connects()), connects)
        self.assertEqual(self.connectError(closed.port)[0], errno.EHOSTUNREACH)
        # And back and forth, while the downloads still continue.
        for url in ("reject://", dante.url()):
            self.change(daemon, proxy=url)
            self.assertEqual(self.reload(daemon)[0], 0)
            for download in downloads:
                download.read(download.count + EARLY)
        for download in downloads:
            download.read(LENGTH)
        self.assertEqual([download.whole() for download in downloads], [True] * DOWNLOADS)
        report = self.status(daemon)
        self.assertEqual(report["upstream"]["proxies"][0]["url"], dante.url())
        self.assertEqual(report["engine"]["flows"]["total"], DOWNLOADS + 1)
        self.assertIn("debug [nanotun", daemon.log())
        self.assertEndsWell(daemon)

    def test_judge(self) -> None:
        """
        With C{reloadFlows: judge} the flows end that the new rules refuse, though the rules before
        were about processes; the others go on.
        """
        kept, ended = self.peer(echo), self.peer(echo)
        url = self.dante().url()
        rules = [{"to": "direct", "processes": "nanotun-nobody", "lan": True}]
        daemon = self.daemon(proxy=url, reloadFlows="judge", rules=rules)
        flows = [self.connect(peer.port) for peer in (kept, ended)]
        rules = [{"to": "reject", "ports": str(ended.port), "lan": True}]
        self.change(daemon, proxy=url, reloadFlows="judge", rules=rules)
        self.assertEqual(self.reload(daemon), (0, "Changed: rules.\n", ""))
        with self.assertRaises(ConnectionResetError):
            flows[1].recv(1)
        flows[0].sendall(b"goes on")
        self.assertEqual(flows[0].recv(7), b"goes on")
        self.assertIn("of 2 open connections, 1 were ended", daemon.log())

    def test_bad(self) -> None:
        """A bad file changes nothing, and the error is in the answer and the log."""
        peer = self.peer(echo)
        daemon = self.tunnel()
        before = self.status(daemon)["upstream"]
        for settings, sentence in (
            ({"proxy": "direct://", "mtu": 5}, "mtu must be"),
            ({"proxy": "https://h?ca=/nowhere.pem"}, "/nowhere.pem"),
            ({"proxy": "direct://", "logDir": "/dev/null/logs"}, "logDir /dev/null/logs"),
            ({"proxy": "direct://", "excludedProcesses": "uid:no-such-user"}, "no-such-user"),
        ):
            self.change(daemon, **settings)
            status, said, error = self.reload(daemon)
            self.assertEqual((status, said), (1, ""))
            self.assertIn(sentence, error)
            self.assertIn("is no good, so nothing changes", daemon.log())
            self.assertIn(sentence, daemon.log())
        os.unlink(daemon.directory / "nanotun.yaml")
        self.assertIn("No such file", self.reload(daemon)[2])
        self.assertEqual(self.status(daemon)["upstream"], before)
        self.assertEchoes(self.connect(peer.port))
        self.assertEndsWell(daemon)

    def test_restart(self) -> None:
        """Settings that need a restart are named and kept; the others are changed."""
        daemon = self.daemon(proxy="direct://")
        self.change(daemon, proxy="direct://", mtu=1400, tunName="other0", dns="192.0.2.9")
        self.assertEqual(
            self.reload(daemon),
            (
                0,
                "Changed: dns.\nAs before until nanotun is started again: tunName, mtu.\n",
                "",
            ),
        )
        report = self.status(daemon)
        self.assertEqual(report["device"]["mtu"], 1500)
        self.assertEqual(report["dns"]["servers"], ["192.0.2.9:53"])
        self.assertIn(TUN_NAME, self.lab.app.interfaces())

    def test_hangup(self) -> None:
        """SIGHUP has the same effect, and the log says what changed."""
        daemon = self.daemon(proxy="direct://")
        self.change(daemon, proxy="reject://")
        daemon.send(signal.SIGHUP)
        waitUntil(lambda: "changed: proxy; needs" in daemon.log(), PATIENCE, "it has reloaded")
        self.assertEqual(self.status(daemon)["upstream"]["proxies"][0]["url"], "reject://")
        for _ in range(50):
            daemon.send(signal.SIGHUP)
        self.assertEndsWell(daemon)

    def test_dns(self) -> None:
        """Other DNS servers are asked at once, and the cache is emptied."""
        first, second = self.nameServer(IPV4.world), self.nameServer(IPV6.world)
        self.lab.openDirectPath()
        daemon = self.daemon(proxy="reject://", dns=IPV4.world)
        for _ in range(2):
            self.assertEqual(ask(self.lab.app, IPV4.gateway, "host.lab", "A").data, ["10.1.2.3"])
        self.assertEqual(self.status(daemon)["dns"]["cached"], 1)
        self.change(daemon, proxy="reject://", dns=IPV6.world)
        self.assertEqual(self.reload(daemon)[1], "Changed: dns.\n")
        self.assertEqual(self.status(daemon)["dns"]["cached"], 0)
        self.assertEqual(ask(self.lab.app, IPV4.gateway, "host.lab", "A").data, ["10.1.2.3"])
        self.assertEqual((len(first.queries()), len(second.queries())), (1, 1))
        self.assertEndsWell(daemon)

    def test_logs(self) -> None:
        """The level, format and place of the logs change."""
        peer = self.peer(echo)
        daemon = self.tunnel()
        url = self.status(daemon)["upstream"]["proxies"][0]["url"]
        place = daemon.directory / "elsewhere"
        self.change(daemon, proxy=url, logDir=str(place), logFormat="json", logLevel="debug")
        self.assertEqual(self.reload(daemon)[1], "Changed: logLevel, logDir, logFormat.\n")
        self.assertEchoes(self.connect(peer.port))
        (file,) = place.iterdir()
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        self.assertIn("debug", {line["level"] for line in lines})

    def test_processes(self) -> None:
        """A rule about processes that needs privileges given up at the start is named."""
        daemon = self.tunnel()
        self.change(
            daemon,
            proxy=f"{self.status(daemon)['upstream']['proxies'][0]['url']}",
            excludedProcesses="curl",
        )
        self.assertIn("until nanotun is started again: excludedProcesses", self.reload(daemon)[1])

    def test_otherProcesses(self) -> None:
        """If there was a rule about processes at the start, another one is adopted."""
        daemon = self.daemon(proxy="direct://", excludedProcesses="curl")
        self.change(daemon, proxy="direct://", excludedProcesses="wget,dig")
        self.assertEqual(self.reload(daemon)[1], "Changed: excludedProcesses.\n")
        self.assertEqual(self.status(daemon)["processes"]["excluded"], 0)
        self.assertEndsWell(daemon)

    def test_background(self) -> None:
        """A daemon in the background reloads any number of times, including its threads."""
        place = self.directory / "daemon"
        runDir = str(place / "run")
        config = writeConfig(place, {"proxy": "direct://", "excludedProcesses": "curl"})
        done = say("start", "-d", "-c", str(config), prefix=self.lab.app.argv([]), cwd=place)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        pid = json.loads(say("status", "--json", "--run-dir", runDir).stdout)["daemon"]["pid"]
        self.addCleanup(endIfThere, pid)
        fds = len(os.listdir(f"/proc/{pid}/fd"))
        for round in range(10):
            proxy, other = ("h.invalid:1", "wget") if round % 2 else ("direct://", "uid:0")
            writeConfig(place, {"proxy": proxy, "excludedProcesses": other})
            done = say("reload", "--run-dir", runDir)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual("h.invalid" in done.stderr, "h.invalid" in proxy, done.stderr)
        self.assertEqual(len(os.listdir(f"/proc/{pid}/fd")), fds)
        self.assertEqual(say("stop", "--run-dir", runDir).returncode, 0)
        self.assertNotIn("Traceback", collectLogs(place))


class RoutedTests(RoutesCase):
    """Under C{autoDefaultRoute}."""

    def test_proxy(self) -> None:
        """
        Another proxy works and gets its routing rule; what the routes depend on needs a
        restart; nothing is left at the end.
        """
        world, server = self.world(), self.socks()
        daemon = self.daemon(server)
        settings = self.settings(server, proxy=server.url(HOST6), lan="proxy")
        writeConfig(daemon.directory, settings)
        done = say("reload", "--run-dir", str(self.directory / "run"))
        self.assertEqual(
            (done.returncode, done.stdout),
            (0, "Changed: proxy.\nAs before until nanotun is started again: lan.\n"),
        )
        waitUntil(
            lambda: HOST6.proxy in self.lab.host.run(["ip", "-6", "rule"]).stdout,
            FOLLOWED,
            "the proxy has a rule",
        )
        self.assertNotIn(HOST4.proxy, self.lab.host.run(["ip", "rule"]).stdout)
        self.assertThroughProxy(world)
        done = say("status", "--run-dir", str(self.directory / "run"))
        self.assertRegex(done.stdout, r"routes +[0-9]+ changes in force\n")
        self.assertIn(daemon.stop()[0], (0, -signal.SIGTERM))
        self.assertNothingLeft()
