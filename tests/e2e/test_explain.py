"""C{nanotun explain} and real traffic give the same answers for the same configuration."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.case import TunnelCase
from tests.e2e.lab.daemon import Daemon, environment
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import LabError
from tests.e2e.lab.topology import IPV4, IPV6, TUN_NAME

SMB = 445


class SameAnswersTests(TunnelCase):
    """C{nanotun explain} and the daemon."""

    seconds = 90

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

    def explained(self, daemon: Daemon, flow: str) -> str:
        """The rule that C{explain} names with the daemon's configuration, and the daemon too."""
        found = self._explain(flow, "--config", str(Path(daemon.directory, "nanotun.yaml")))
        self.assertEqual(found["by"], "options")
        asked = self._explain(flow, "--run-dir", str(daemon.directory / "run"))
        self.assertEqual((asked["by"], asked["pid"]), ("daemon", daemon.pid))
        for key in ("verdict", "rule", "reason"):
            self.assertEqual(asked[key], found[key], flow)
        return f"{found['verdict']} {found['rule']}"

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
                    return f"{line.partition(f'{place}: ')[2].split()[0]} {rule}"
            time.sleep(0.02)
        raise LabError(f"the daemon did not say what became of {place}\n{daemon.log()}")

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
