"""C{nanotun explain} and real traffic give the same answers for the same configuration."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.case import TunnelCase
from tests.e2e.lab import nameserver
from tests.e2e.lab.daemon import Daemon, environment
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import LabError
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6, TUN_NAME
from tests.e2e.test_names import FAKES, NAME, world

SMB = 445

SCRIPT = f"""
def flow(flow):
    if flow.port == 7005 and flow.domain == {NAME!r}:
        return "reject"
    if flow.port == 7006 and flow.process and flow.process.pid == {os.getpid()}:
        return "drop"
"""


class ExplainCase(TunnelCase):
    """Asks C{nanotun explain}, and the daemon what really happens."""

    seconds = 180  # Two processes for each flow.

    def explained(self, daemon: Daemon, flow: str) -> str:
        """The rule that C{explain} names with the daemon's configuration, and the daemon too."""
        found = self.bySettings(daemon, flow)
        asked = self.byDaemon(daemon, flow)
        for key in ("verdict", "rule", "reason", "steps", "script"):
            self.assertEqual(asked[key], found[key], flow)
        return f"{found['verdict']} {found['rule']}"

    def bySettings(self, daemon: Daemon, flow: str) -> Any:
        """The answer by the daemon's configuration."""
        found = self._explain(flow, "--config", str(Path(daemon.directory, "nanotun.yaml")))
        self.assertEqual(found["by"], "options")
        return found

    def byDaemon(self, daemon: Daemon, flow: str) -> Any:
        """The answer of the daemon itself."""
        found = self._explain(flow, "--run-dir", str(daemon.directory / "run"))
        self.assertEqual((found["by"], found["pid"]), ("daemon", daemon.pid))
        return found

    def _explain(self, flow: str, *options: str) -> Any:
        """What C{explain --json} says."""
        code = "import sys; from nanotun.console import main; sys.exit(main())"
        python = ["env", f"PYTHONPATH={environment()['PYTHONPATH']}", sys.executable, "-c", code]
        words = ["explain", *flow.split(), *options, "--json"]
        done = self.lab.app.run([*python, *words])
        return json.loads(done.stdout)

    def really(self, daemon: Daemon, app: Namespace, flow: str) -> str:
        """The rule that the daemon names for a real flow."""
        protocol, _, place = flow.partition(" ")
        host, _, port = place.rpartition(":")
        family = socket.AF_INET6 if "[" in host else socket.AF_INET
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with app.makeSocket(family, kind) as sock:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect((host.strip("[]"), int(port)))
            with contextlib.suppress(BlockingIOError):
                if protocol == "udp":
                    sock.send(b"x")
            return self.ruleOf(daemon, protocol, place)

    def ruleOf(self, daemon: Daemon, protocol: str, place: str) -> str:
        """Verdict and rule in the log line about the flow to C{place}."""
        start = f" {protocol.upper()} flow "
        end = time.monotonic() + 5
        while time.monotonic() < end:
            for line in daemon.log().splitlines():
                if start in line and f" to {place}" in line and "(rule " in line:
                    rule = line.partition("(rule ")[2].partition(")")[0]
                    if "direct://" in line:
                        return f"direct {rule}"
                    if "socks5://" in line:
                        return f"proxy {rule}"
                    return f"{line.partition(' (rule ')[0].split()[-1]} {rule}"
            time.sleep(0.02)
        raise LabError(f"the daemon did not say what became of {place}\n{daemon.log()}")


class SameAnswersTests(ExplainCase):
    """C{nanotun explain} and the daemon."""

    CASES: Sequence[tuple[str, str]] = (
        (f"tcp {IPV4.world}:8080", "default"),
        (f"tcp [{IPV6.world}]:8080", "default"),
        (f"udp {IPV4.world}:9000", "default"),
        (f"udp [{IPV6.world}]:9000", "default"),
        ("tcp 203.0.113.9:80", "excluded-ip"),
        ("udp 203.0.113.9:80", "excluded-ip"),
        ("tcp [2001:db8:7::1]:80", "excluded-ip"),
        (f"tcp {IPV4.world}:{SMB}", "lan-only-port"),
        (f"udp [{IPV6.world}]:5353", "lan-only-port"),
        (f"tcp 9.9.9.9:{SMB}", "lan-only-port"),
        ("udp [2a77::9]:137", "lan-only-port"),
        ("udp 198.51.100.1:53", "dns-override"),
        ("tcp 198.51.100.1:53", "default"),
        ("tcp 169.254.8.8:80", "link-local"),
        ("tcp 240.0.0.1:80", "no-host"),
        ("udp 224.1.1.1:80", "no-host"),
        (f"tcp {IPV4.gateway}:53", "gateway"),
    )
    RULE_CASES: Sequence[tuple[str, str]] = (
        ("tcp 9.9.9.9:7777", "#1"),
        ("udp [2a77::9]:7777", "#1"),
        ("tcp 203.0.113.9:7777", "#1"),
        ("tcp 9.9.8.8:80", "#2"),
        ("udp [2a77:8::8]:80", "#2"),
        ("tcp 203.0.113.200:80", "#3"),
        (f"tcp 9.9.8.9:{SMB}", "#2"),
    )
    RULES: Sequence[dict[str, object]] = (
        {"to": "reject", "lan": True, "ports": 7777},
        {"to": "drop", "networks": ["9.9.8.0/24", "2a77:8::/32"]},
        {"to": "reject", "networks": "203.0.113.128/25"},
    )

    def test_table(self) -> None:
        """Both name the same verdict and rule, with a path past the tunnel and without."""
        settings: dict[str, object] = {
            "excludedIPs": ["203.0.113.0/24", "2001:db8:7::/48"],
            "dnsOverride": True,
            "logLevel": "debug",
        }
        self.lab.openDirectPath()
        daemon = self.tunnel(**settings)
        self.lab.app.ip(f"route add 169.254.8.8 dev {TUN_NAME}")
        self.lab.app.ip(f"route add 224.1.1.1 dev {TUN_NAME}")
        for flow, rule in self.CASES:
            real = self.really(daemon, self.lab.app, flow)
            self.assertEqual(real.split()[1], rule, flow)
            self.assertEqual(self.explained(daemon, flow), real, flow)
        self.lab.app.ip("rule del table 77")
        self.lab.app.ip("rule del table 77", version="-6")
        time.sleep(3.1)  # The daemon's knowledge about routes may be this old.
        for flow in ("tcp 203.0.113.9:81", "tcp [2001:db8:7::1]:81", f"tcp {IPV4.world}:139"):
            self.assertEqual(self.really(daemon, self.lab.app, flow), "reject no-way", flow)
            self.assertEqual(self.explained(daemon, flow), "reject no-way", flow)

    def test_userRules(self) -> None:
        """The same of rules of the user's, which come before all other settings."""
        daemon = self.tunnel(
            excludedIPs=["203.0.113.0/24"], rules=list(self.RULES), logLevel="debug"
        )
        for flow, rule in self.RULE_CASES:
            real = self.really(daemon, self.lab.app, flow)
            self.assertEqual(real.split()[1], rule, flow)
            self.assertEqual(self.explained(daemon, flow), real, flow)


class KnownTests(ExplainCase):
    """What is known of a flow: its name and its process, for rules and for the script."""

    RULES: Sequence[dict[str, object]] = (
        {"to": "reject", "lan": True, "domains": "world.example", "ports": 7001},
        {"to": "drop", "lan": True, "not": {"domains": "~^w{3}[.]w"}, "ports": 7001},
        {"to": "direct", "lan": True, "domains": "=world.example", "ports": 7002},
        {"to": "drop", "lan": True, "processes": f"pid:{os.getpid()}", "ports": 7003},
        {"to": "reject", "lan": True, "not": {"processes": "uid:0"}, "ports": 7004},
    )
    CASES: Sequence[tuple[int, str]] = (
        (7001, "reject #1"),
        (7002, "proxy default"),
        (7003, "drop #4"),
        (7004, "proxy default"),
        (7005, "reject script"),
        (7006, "drop script"),
        (7007, "proxy default"),
    )

    def relay(self, dnsMode: str) -> Daemon:
        """Start a daemon that asks a server of ours in the world."""
        folder = Path(tempfile.mkdtemp(dir=Path.home()))  # Only root can write on the way there.
        self.addCleanup(shutil.rmtree, folder)
        script = folder / "flows.py"
        script.write_text(SCRIPT)
        self.udpServer(world, IPV4, IPV4.world, nameserver.PORT)
        return self.tunnel(
            dns=[IPV4.world],
            dnsMode=dnsMode,
            dnsStateFile=str(self.directory / "fakeip.json"),
            dnsVia="proxy",
            lan="proxy",
            rules=list(self.RULES),
            script=str(script),
            logLevel="debug",
        )

    def test_fake(self) -> None:
        """A name that the relay gives an address of its own is judged by the name."""
        daemon = self.relay("fake-ip")
        for kind, family in zip(("A", "AAAA"), FAMILIES, strict=True):
            (fake,) = nameserver.ask(self.lab.app, IPV4.gateway, NAME, kind).data
            self.assertEqual(fake, FAKES[family])
            for port, expected in self.CASES:
                place = f"[{fake}]:{port}" if ":" in fake else f"{fake}:{port}"
                real = self.really(daemon, self.lab.app, f"tcp {place}")
                self.assertEqual(real, expected, place)
                flow = f"tcp {NAME}:{port} --pid {os.getpid()}"
                self.assertEqual(self.explained(daemon, flow), real, flow)
                asked = self.byDaemon(daemon, f"tcp {place} --pid {os.getpid()}")
                self.assertEqual(f"{asked['verdict']} {asked['rule']}", real, place)
                self.assertEqual(asked["name"], NAME)

    def test_real(self) -> None:
        """A real address is judged by the name that the relay has told it for."""
        daemon = self.relay("normal")
        for kind, family in zip(("A", "AAAA"), FAMILIES, strict=True):
            (host,) = nameserver.ask(self.lab.app, IPV4.gateway, NAME, kind).data
            self.assertEqual(host, family.world)
            for port, expected in self.CASES:
                place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                real = self.really(daemon, self.lab.app, f"tcp {place}")
                self.assertEqual(real, expected, place)
                flow = f"tcp {place} --pid {os.getpid()}"
                asked = self.byDaemon(daemon, flow)
                self.assertEqual(f"{asked['verdict']} {asked['rule']}", real, place)
                self.assertEqual(self.explained(daemon, f"{flow} --name {NAME}"), real, flow)
