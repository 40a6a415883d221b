"""
Seventy-one kinds of sender look for a way out of a cell, with tcpdump on the uplink as the
witness.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Sequence

from tests.e2e.lab import senders
from tests.e2e.lab.cell import Done
from tests.e2e.lab.httpproxies import Tinyproxy
from tests.e2e.lab.ordinary import NOBODY
from tests.e2e.lab.process import PROJECT_ROOT
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.senders import SENDERS
from tests.e2e.lab.tcpdump import Capture
from tests.e2e.lab.topology import IPV4
from tests.e2e.run_case import RunCase, callers

PROGRAM = [sys.executable, "-I", "-B", str(PROJECT_ROOT / "tests/e2e/lab/senders.py")]

OTHERS = (
    f"not (host {IPV4.proxy} and (tcp port {{port}} or"
    " (udp and src portrange 1024-65535 and dst portrange 1024-65535 or ip[6:2] & 0x1fff != 0)))"
    " and not arp and not (icmp6 and (ip6[40] = 135 or ip6[40] = 136)) and not ip6[6] = 0"
)
"""
All but packets to the proxy, whose datagrams may have fragments, and the kernel's own: those
that look for neighbours, and reports of multicast groups.  Senders of such packets have filters
that no packet of the kernel's fits.
"""

OPEN = {
    "lan": "direct",
    "excludedIPs": "0.0.0.0/0,::/0",
    "lanOnlyPorts": "tcp:139,tcp:445,udp:137,udp:138,udp:445,udp:5353",
    "dnsVia": "direct",
}
"""Everything that a flag could open."""

DENIED = {"EPERM", "EACCES"}
"""What senders hear that only root may be."""


class WitnessCase(RunCase):
    """What leaves by the uplink while every sender sends."""

    seconds = 120

    def setUp(self) -> None:
        """Let every packet that leaves have a way."""
        super().setUp()
        self.lab.openDirectPath()
        self.lab.app.ip(f"route add default via {IPV4.proxy}")
        self.lab.app.ip("route add default via fd77:1::1", version="-6")
        listener = self.lab.app.makeSocket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(senders.ABSTRACT)
        listener.listen()
        self.nameServer(IPV4.world)

    def watched(self, argv: Sequence[str]) -> tuple[Done, dict[str, str], Capture]:
        """Run senders to their end.  Their outcomes are told by name."""
        capture = Capture(self.lab.app, self.directory, "up0")
        self.addCleanup(capture.stop)
        done = self.launch(argv).done(timeout=100)
        capture.stop()
        outcomes = dict(line.split(": ", 1) for line in done.out.splitlines())
        self.assertEqual(outcomes.keys(), SENDERS.keys(), done)
        return done, outcomes, capture

    def inCell(
        self, proxy: str, *options: str, **variables: str
    ) -> tuple[Done, dict[str, str], Capture]:
        """Run all senders in a cell."""
        argv = self.argv([*PROGRAM, "nano0"], proxy, "--dns", IPV4.world, *options)
        return self.watched(["env", *(f"{k}={v}" for k, v in variables.items()), *argv])

    def assertOneWay(
        self,
        outcomes: dict[str, str],
        capture: Capture,
        port: int,
        opened: Sequence[str] = (),
    ) -> None:
        """Whatever was sent, packets left for C{port} of the proxy only, but for some senders'."""
        closed = {name: sender for name, sender in SENDERS.items() if name not in opened}
        leaks = {
            name: packets[:2]
            for name, sender in closed.items()
            if sender.filter and (packets := capture.packets(sender.filter, sender.word))
        }
        self.assertEqual(leaks, {})
        odd = {name: outcomes[name] for name in closed}
        # An ordinary user may not even try some.
        denied = set() if self.byRoot else DENIED
        odd = {name: what for name, what in odd.items() if what not in closed[name].inCell | denied}
        self.assertEqual(odd, {}, "that is no sign of something sent")
        self.assertNotEqual(capture.packets(f"dst host {IPV4.proxy} and dst port {port}"), [])
        if not opened:
            self.assertEqual(capture.packets(OTHERS.format(port=port)), [])


class ControlTests(WitnessCase):
    """That the witness sees what is sent."""

    def test_control(self) -> None:
        """Without a cell each sender that has packets leaves some, which the witness sees."""
        (self.directory / "resolv.conf").write_text(f"nameserver {IPV4.world}\n")
        (self.directory / "nsswitch.conf").write_text("passwd: files\nhosts: files dns\n")
        script = (
            "for name in resolv nsswitch; do"
            " mount --bind $name.conf $(readlink -f /etc/$name.conf) || exit; done; "
            f"exec {shlex.join([*PROGRAM, 'up0'])}"
        )
        _, outcomes, capture = self.watched(["unshare", "--mount", "sh", "-c", script])
        unseen = {
            name: outcomes[name]
            for name, sender in SENDERS.items()
            if sender.filter and not capture.packets(sender.filter, sender.word)
        }
        self.assertEqual(unseen, {})
        self.assertEqual(outcomes["abstract"], "sent")


class WitnessChecks(WitnessCase):
    """What leaves from a cell."""

    def test_socks5(self) -> None:
        """In a cell no sender leaves any: the uplink carries packets to the proxy only."""
        proxy = self.dante()
        done, outcomes, capture = self.inCell(proxy.url())
        self.assertOneWay(outcomes, capture, proxy.port)
        self.assertNotIn("open past the proxy", done.err)

    def test_socks5Simple(self) -> None:
        """Nor does one with the other engine."""
        proxy = self.dante()
        _, outcomes, capture = self.inCell(proxy.url(), "--stack", "simple")
        self.assertOneWay(outcomes, capture, proxy.port)

    def test_http(self, *options: str) -> None:
        """Nor with an HTTP proxy, which carries no UDP."""
        proxy = Tinyproxy(self.lab.proxy, self.directory)
        self.addCleanup(proxy.stop)
        _, outcomes, capture = self.inCell(f"http://{IPV4.proxy}:{proxy.port}", *options)
        self.assertOneWay(outcomes, capture, proxy.port)

    def test_httpSimple(self) -> None:
        """Nor with that and the other engine."""
        self.test_http("--stack", "simple")

    def test_socks4(self, *options: str) -> None:
        """Nor with a proxy that takes no names."""
        proxy = self.dante()
        _, outcomes, capture = self.inCell(f"socks4://{IPV4.proxy}:{proxy.port}", *options)
        self.assertOneWay(outcomes, capture, proxy.port)

    def test_socks4Simple(self) -> None:
        """Nor with that and the other engine."""
        self.test_socks4("--stack", "simple")

    def test_config(self) -> None:
        """Neither a configuration file nor variables open anything, and a line says so."""
        proxy = self.dante()
        path = self.directory / "nanotun.yaml"
        path.write_text("".join(f"{key}: '{value}'\n" for key, value in OPEN.items()))
        path.chmod(0o600)
        if not self.byRoot:
            os.chown(path, NOBODY, NOBODY)
        variables = {f"NANOTUN_{key.upper()}": value for key, value in OPEN.items()}
        for options, given, source in (
            (("--config", str(path)), {}, str(path)),
            ((), variables, "variables"),
        ):
            done, outcomes, capture = self.inCell(proxy.url(), *options, **given)
            self.assertOneWay(outcomes, capture, proxy.port)
            self.assertEqual(
                done.err.splitlines()[0],
                f"nanotun: open past the proxy: nothing; not taken from {source}, because only "
                "flags open more: dnsVia, excludedIPs, lan, lanOnlyPorts.",
            )

    def test_opened(self) -> None:
        """What flags open gets out, nothing else does, and the first line lists it."""
        proxy: Dante = self.dante()
        flags = ("--lan", "direct", "--exclude-ip", senders.METADATA, "--dns-via", "direct")
        done, outcomes, capture = self.inCell(proxy.url(), *flags)
        opened = (
            *("tcp-private", "tcp-neighbour", "dns-router", "metadata"),
            # A name without a dot gets a fake address in a cell, whatever flags say.
            *("getaddrinfo-local", "reverse", "dns-mx"),
        )
        self.assertOneWay(outcomes, capture, proxy.port, opened)
        for name in opened:
            sender = SENDERS[name]
            self.assertNotEqual(capture.packets(sender.filter, sender.word), [], name)
        self.assertEqual(
            done.err.splitlines()[0],
            "nanotun: open past the proxy: local networks (--lan direct), 169.254.169.254/32 "
            f"(--exclude-ip), DNS queries to {IPV4.world}:53 (--dns-via direct).",
        )


callers(globals(), WitnessChecks)
del WitnessChecks
