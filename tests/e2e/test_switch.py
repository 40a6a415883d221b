"""
The two layers of the kill switch: each holds without the other, and both let past the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

from tests.e2e.endings_case import NOWHERE, SSH_PORT, WORLD, EndingCase, echo
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.host import (
    GATEWAY4,
    GATEWAY6,
    HOST4,
    HOST6,
    NEIGHBOUR4,
    NEIGHBOUR6,
    UPLINK,
    Witness,
)
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.servers import Peer
from tests.e2e.routes_case import FAMILIES

#: How often the rules are flushed under load.
TIMES = 10

FLUSH = ("ip -4 rule flush protocol 110", "ip -6 rule flush protocol 110")
DHCP = {4: (68, 67), 6: (546, 547)}


class FlushTests(EndingCase):
    """Somebody takes away a layer while the daemon runs."""

    def switched(self) -> Daemon:
        """A daemon with a kill switch; from now on the host sends."""
        daemon = self.daemon(self.proxy, killSwitch=True)
        self.watch()
        return daemon

    def rules(self) -> str:
        """The routing rules of both families."""
        return self.lab.host.run(["sh", "-c", "ip -4 rule; ip -6 rule"]).stdout

    def test_rules(self) -> None:
        """Nothing leaves before flushed rules are back, and a flow through the proxy goes on."""
        daemon = self.switched()
        whole = self.rules()
        peer = Peer(self.lab.world, echo)
        self.addCleanup(peer.stop)
        flows = [self.lab.host.connect((family.world, peer.port), 5) for family in FAMILIES]
        for _ in range(TIMES):
            self.lab.host.run(["sh", "-c", "; ".join(FLUSH)])
            waitUntil(lambda: self.rules() == whole, PATIENCE, "the rules are back")
        for flow in flows:
            self.addCleanup(flow.close)
            flow.sendall(b"alive")
            self.assertEqual(flow.recv(10), b"alive")
        self.assertClosed()
        self.assertThroughProxy(self.server)
        daemon.stop()
        self.assertOpen()

    def test_firewall(self) -> None:
        """Nothing leaves while the firewall is flushed, and the switch table comes back."""
        daemon = self.switched()
        for _ in range(2):
            self.lab.host.run(["nft", "flush", "ruleset"])
            self.senders.wait(20)
            waitUntil(
                lambda: "nanotun-switch" in self.lab.host.run(["nft", "list", "tables"]).stdout,
                PATIENCE,
                "the table is back",
            )
        self.assertClosed()
        daemon.stop()
        self.assertOpen()

    def test_deviceDown(self) -> None:
        """Nothing leaves while the device is set down, and traffic flows when it is up again."""
        daemon = self.switched()
        self.lab.host.ip("link set nano0 down")
        self.assertClosed()
        self.lab.host.ip("link set nano0 up")
        waitUntil(lambda: "default" in self.table(), PATIENCE, "the route is back")
        self.assertThroughProxy(self.server)
        self.assertClosed()
        daemon.stop()

    def table(self) -> str:
        """The routing table that leads into the tunnel."""
        shown = self.lab.host.run(["ip", "route", "show", "table", "28276"], check=False)
        return shown.stdout

    def test_tailscale(self) -> None:
        """What another program's rules let past before ours is let past by the table."""
        self.lab.host.ip(
            "link add tailscale0 type veth peer name tailscale1",
            "link set tailscale1 up",
            "link set tailscale0 arp off up",
        )
        for version, network in (("-4", "100.99.0.0/16"), ("-6", "fd7a:115c:a1e0::/48")):
            self.lab.host.ip(
                "rule add pref 5210 fwmark 0x80000/0xff0000 lookup main",
                "rule add pref 5270 lookup 52",
                f"route add {network} dev tailscale0 table 52",
                version=version,
            )
        self.before = self.lab.state()
        daemon = self.switched()
        seen = Witness(self.lab.host, "tailscale0")
        self.addCleanup(seen.stop)
        for address, mark in (
            ("100.99.1.1", 0),
            ("fd7a:115c:a1e0::5", 0),
            (HOST4.world, 0x80000),
            (HOST6.world, 0x80000),
        ):
            send(self.lab.host, address, 7777, mark=mark)
        waitUntil(
            lambda: len(seen.to("100.99.1.1", "fd7a:115c:a1e0::5")) == 2, PATIENCE, "they left"
        )
        waitUntil(
            lambda: sum(each.ports[1] == 7777 for each in self.watched.to(*WORLD)) == 2,
            PATIENCE,
            "Tailscale's own packets left",
        )
        self.assertEqual([each for each in self.leaked() if each.ports[1] != 7777], [])
        daemon.stop()


def send(
    space: Namespace, address: str, port: int, source: int = 0, mark: int = 0, device: str = ""
) -> str:
    """Send one datagram; return the error, or an empty string."""
    with space.makeSocket(
        socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM
    ) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        try:
            if source:
                sock.bind(("", source))
            sock.sendto(b"x", (address, port))
        except OSError as error:
            return os.strerror(error.errno or 0)
    return ""


class LayerTests(EndingCase):
    """After a crash: each layer alone lets past the same, and nothing else."""

    #: How nft is hidden, if it is.
    prefix: tuple[str, ...] = ()
    lan = "direct"

    def layers(self) -> list[tuple[str, list[str]]]:
        """For each layer, the commands that leave nothing but it."""
        clear = ["nft flush ruleset"]
        return [("rules", clear), ("table", list(FLUSH))]

    def crash(self) -> None:
        """A daemon with a kill switch has crashed."""
        child = self.daemonIn(
            list(self.prefix), self.proxy, killSwitch=True, lan=self.lan, excludedProcesses="uid:33"
        )
        child.stop(9)

    def test_layers(self) -> None:
        """
        Sessions, DHCP, neighbour discovery, the local network and excluded users get out, and
        a machine behind this one does not, by the rules alone and by the table alone.
        """
        self.lab.host.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        self.lab.neighbour.ip(
            f"route replace default via {HOST4.app}", f"route replace default via {HOST6.app}"
        )
        answers = {}
        for name, commands in self.layers():
            self.before = self.lab.state()
            self.crash()
            self.lab.host.run(["sh", "-c", "; ".join(commands)])
            self.watch()
            answers[name] = self.look()
            self.assertEqual(self.leaked(), [], name)
            self.senders.stop()
            self.watched.stop()
            # What one layer lacks is put right by recover as well.
            self.assertEqual(self.recover()[0], 0)
            self.assertNothingLeft()
        self.assertEqual(answers["rules"], answers["table"])
        near = self.lan == "direct"
        self.assertEqual(
            answers["table"],
            {
                "sessions": True,
                "new session": True,
                "discovery": True,
                "DHCP": True,
                "neighbour": near,
                "broadcast": True,
                "user": True,
                "guest": False,
            },
        )

    def look(self) -> dict[str, bool]:
        """What gets out."""
        found: dict[str, bool] = {}
        for session in self.sessions[:2]:
            self.assertEchoes(session)
        found["sessions"] = True
        for family in FAMILIES:
            with self.session(family.app) as fresh:
                self.assertEchoes(fresh)
        found["new session"] = True
        # The session from the world needs the gateway's link address, which is asked for anew.
        self.lab.host.run(["ip", "neigh", "flush", "dev", UPLINK])
        for session in self.sessions[:2]:
            self.assertEchoes(session)
        found["discovery"] = True
        for version, gateway in ((4, GATEWAY4), (6, GATEWAY6)):
            client, server = DHCP[version]
            self.assertEqual(send(self.lab.host, gateway, server, client), "", version)
        found["DHCP"] = self.left(lambda each: each.ports in DHCP.values(), 2)
        found["neighbour"] = all(map(self.reaches, (NEIGHBOUR4, NEIGHBOUR6)))
        # The kernel does not ask its rules about these.
        send(self.lab.host, "192.168.77.255", 9999)
        send(self.lab.host, "ff02::fb", 9999, device=UPLINK)
        found["broadcast"] = self.left(lambda each: each.ports[1] == 9999, 2)
        for family in FAMILIES:
            command = f"echo x >/dev/udp/{family.world}/5555"
            argv = ["setpriv", "--reuid=33", "--clear-groups", "bash", "-c", command]
            self.lab.host.run(argv, check=False)
        found["user"] = self.left(lambda each: each.ports[1] == 5555, 2)
        for family in FAMILIES:
            for source in (0, 68, SSH_PORT + 1):
                send(self.lab.neighbour, family.world, NOWHERE + 1, source)
        time.sleep(0.2)
        found["guest"] = self.left(lambda each: each.ports[1] == NOWHERE + 1, 1, 0.3)
        return found

    def leaked(self) -> list[object]:  # type: ignore[override]
        """See L{EndingCase.leaked}: but for the excluded user's packets."""
        return [each for each in super().leaked() if each.ports[1] != 5555]

    def left(self, which: object, count: int, seconds: float = 5.0) -> bool:
        """Whether so many different packets have left by the uplink."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if len([each for each in self.watched.all() if which(each)]) >= count:  # type: ignore[operator]
                return True
            time.sleep(0.02)
        return False

    def reaches(self, address: str) -> bool:
        """Whether a server of the neighbour's can be reached."""
        with contextlib.suppress(OSError):
            self.lab.host.connect((address, SSH_PORT), 1).close()
            return True
        return False


class ProxyLanLayerTests(LayerTests):
    """The same with lan: proxy."""

    lan = "proxy"


class IptablesLayerTests(LayerTests):
    """The same without nft, with iptables."""

    prefix = (
        *("unshare", "--mount", "--propagation", "private", "sh", "-ec"),
        'mount --bind /dev/null $(command -v nft); exec "$@"',
        "sh",
    )

    def assertNothingLeft(self) -> None:
        """Nothing of nanotun's is left; the kernel's own chains stay, once they were used."""
        shown = self.lab.host.run(["sh", "-c", "nft list ruleset; ip rule; ip -6 rule"]).stdout
        for sign in ("NANO", "nanotun", "7460", "7450"):
            self.assertNotIn(sign, shown)
