"""
The tunnel for some programs alone (C{onlyProcesses}): nothing of theirs leaves past it, and
nothing of anybody else's enters it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from twisted.trial.unittest import SkipTest

from tests.e2e.case import engines
from tests.e2e.firewall_case import controlGroup, inGroup
from tests.e2e.lab import toydns
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.host import DNS4, HOST4, HOST6, NEIGHBOUR4, NEIGHBOUR6, UPLINK
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, Child, LabError, run, waitUntil
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import Family
from tests.e2e.lab.udp import Address, UDPServer
from tests.e2e.routes_case import FAMILIES, FOLLOWED, PROMISE, RoutesCase
from tests.e2e.test_owners import cgroupRoot

WORLD = (HOST4.world, HOST6.world)

#: Seconds after which what a control group sends enters the tunnel once the group is made, unless
#: the machine is busy: less than between two checks of all rules.
SOON = 0.6
TOLD = "of onlyProcesses was made; from now on"

#: Ends before its answers arrive: a datagram's, and the rest of a connection's.
HASTY = """
import socket, sys, time
host, datagrams, stream = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"later", (host, datagrams))
with socket.create_connection((host, stream), 5) as sock:
    sock.recv(1)
"""


#: Listens where nscd does.
NSCD = """
import socket, time
with socket.socket(socket.AF_UNIX) as sock:
    sock.bind("/run/nscd/socket")
    sock.listen()
    print("there", flush=True)
    time.sleep(100)
"""


class Sender(NamedTuple):
    """
    Who sends.

    @ivar uid: as which user; 0 for root.
    @ivar folder: the control group's directory; empty for the test's own.
    """

    uid: int = 0
    folder: str = ""

    def argv(self, space: Namespace, *argv: str) -> list[str]:
        """The command that runs C{argv} as this sender."""
        changed = ["setpriv", "--reuid", f"{self.uid}", "--clear-groups", *argv]
        inside = space.argv(changed if self.uid else list(argv))
        return inGroup(self.folder, inside) if self.folder else inside


ANN, BOB, ROOT = Sender(4242), Sender(4343), Sender()


def trickle(sock: socket.socket) -> None:
    """Send for a second, whether somebody reads it or not."""
    with contextlib.suppress(OSError):
        for _ in range(20):
            sock.sendall(b"x" * 1000)
            time.sleep(0.05)


def answerLate(server: UDPServer, payload: bytes, source: Address) -> None:
    """Answer once conntrack has forgotten the query."""
    time.sleep(3)
    server.sock.sendto(payload, source)


class OnlyChecks(RoutesCase):
    """With real users and control groups."""

    stackMode: str

    def setUp(self) -> None:
        """Start what is asked, and what is asked through."""
        super().setUp()
        # `ip netns exec` would hide the machine's control groups.
        host = self.lab.host
        self.patch(host, "argv", lambda argv: ["nsenter", f"--net=/run/netns/{host.name}", *argv])
        self.web = self.world()
        self.proxy: Dante = self.socks()
        #: What the relay asks, and what programs ask themselves.
        self.relayed = self.nameServers(DNS4)
        self.asked = self.nameServers(HOST4.world)

    def nameServers(self, address: str) -> UDPServer:
        """A name server of the world."""
        server = UDPServer(self.lab.world, address, toydns.honest, 53)
        self.addCleanup(server.stop)
        return server

    def only(self, *chosen: str, **settings: object) -> Daemon:
        """A daemon for these programs."""
        self.before = self.lab.state()
        return self.daemon(
            self.proxy, onlyProcesses=list(chosen), stackMode=self.stackMode, **settings
        )

    @contextlib.contextmanager
    def group(self) -> Iterator[Sender]:
        """A program in a control group of its own."""
        with controlGroup(f"nt-only-{os.getpid()}") as folder:
            if not folder:
                raise SkipTest("there are no control groups of version 2 that can be made")
            yield Sender(0, folder)

    def uplink(self) -> Tcpdump:
        """A witness of what leaves by the uplink for the world, or with the tunnel's address."""
        hosts = (*WORLD, HOST4.kernel, HOST6.kernel)
        what = " or ".join(f"host {each}" for each in hosts)
        witness = Tcpdump(self.lab.host, self.directory, UPLINK, what)
        self.addCleanup(witness.stop)
        return witness

    def seen(self, sender: Sender, family: Family, timeout: float = 30) -> str:
        """The sender's address as the world sees it; empty if it gets no answer."""
        url = family.url(self.web.port, "/peer")
        curl = sender.argv(self.lab.host, "curl", "-q", "-sS", "-g", "-m", f"{timeout}", url)
        try:
            return run(curl).stdout
        except LabError:
            return ""

    def ask(self, sender: Sender) -> str:
        """What the sender hears from the world's name server."""
        kdig = ["kdig", "+short", "+retry=0", "+time=3", "host.lab", f"@{HOST4.world}"]
        return run(sender.argv(self.lab.host, *kdig), check=False).stdout.strip()

    def entered(self) -> int:
        """How many packets have entered the device."""
        shown = self.lab.host.run(["ip", "-s", "-j", "link", "show", "nano0"]).stdout
        return int(json.loads(shown)[0]["stats64"]["tx"]["packets"])

    def assertCaptured(self, sender: Sender) -> None:
        """What the sender sends goes through the proxy, and its queries to the relay."""
        witness = self.uplink()
        for family in FAMILIES:
            self.assertEqual(self.seen(sender, family), family.proxyOutside, family.name)
        before = len(self.asked.heard), len(self.relayed.heard)
        self.assertEqual(self.ask(sender), toydns.RIGHT)
        self.assertEqual(len(self.asked.heard), before[0])
        self.assertEqual(witness.destinations(), {})
        witness.stop()

    def assertLeftAlone(self, *senders: Sender) -> None:
        """What these send leaves as it would without nanotun, and no packet enters the device."""
        # The answer to the last query of the start is behind us, or this would not be stable.
        waitUntil(self._isQuiet, PATIENCE, "the device is quiet")
        before = self.entered()
        for sender in senders:
            for family in FAMILIES:
                self.assertEqual(self.seen(sender, family), family.app, family.name)
            heard = len(self.asked.heard)
            self.assertEqual(self.ask(sender), toydns.RIGHT)
            self.assertEqual(len(self.asked.heard), heard + 1)
        self.assertEqual(self.entered(), before)

    def assertHeldBack(self, *senders: Sender) -> None:
        """Nothing that these send leaves."""
        witness = self.uplink()
        for sender in senders:
            for family in FAMILIES:
                self.assertEqual(self.seen(sender, family, 1), "")
            self.assertNotEqual(self.ask(sender), toydns.RIGHT)
        self.assertEqual(witness.destinations(), {})
        witness.stop()

    def _isQuiet(self) -> bool:
        before = self.entered()
        time.sleep(0.3)
        return self.entered() == before

    def forward(self) -> None:
        """Have the host forward for its neighbour."""
        self.lab.host.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        self.lab.neighbour.ip(
            f"route replace default via {HOST4.app}", f"route replace default via {HOST6.app}"
        )

    def assertForwarded(self) -> None:
        """What the neighbour sends by way of the host goes on past the tunnel."""
        before = self.entered()
        for family, own in ((HOST4, NEIGHBOUR4), (HOST6, NEIGHBOUR6)):
            url = family.url(self.web.port, "/peer")
            got = self.lab.neighbour.run(["curl", "-q", "-sS", "-g", "-m", "60", url]).stdout
            self.assertEqual(got, own)
        self.assertEqual(self.entered(), before)

    def test_user(self) -> None:
        """A chosen user's flows and queries take the tunnel, nobody else's, and none forwarded."""
        self.forward()
        daemon = self.only(f"uid:{ANN.uid}")
        self.assertCaptured(ANN)
        self.assertLeftAlone(BOB, ROOT)
        self.assertForwarded()
        daemon.stop()
        self.assertNothingLeft()

    def test_group(self) -> None:
        """So do those of a chosen control group, and of one below it; root's others do not."""
        with self.group() as chosen:
            below = Sender(0, f"{chosen.folder}/below")
            os.mkdir(below.folder)
            try:
                daemon = self.only(f"cgroup:/{os.path.basename(chosen.folder)}")
                self.assertCaptured(chosen)
                self.assertCaptured(below)
                self.assertLeftAlone(BOB, ROOT)
                daemon.stop()
            finally:
                waitUntil(lambda: _isRemoved(below.folder), PATIENCE, "it is empty")
        self.assertNothingLeft()

    def test_groupMadeAnew(self) -> None:
        """A group that is made later, and again, is captured a moment after it was made."""
        with self.group() as chosen:
            os.rmdir(chosen.folder)
            daemon = self.only(f"cgroup:/{os.path.basename(chosen.folder)}")
            self.assertLeftAlone(ROOT)
            took: list[float] = []
            for _ in range(4):
                told = daemon.log().count(TOLD)
                os.mkdir(chosen.folder)
                began = time.monotonic()
                waitUntil(lambda: daemon.log().count(TOLD) > told, PATIENCE, "it is told")  # noqa: B023
                took.append(time.monotonic() - began)
                self.assertCaptured(chosen)
                waitUntil(lambda: _isRemoved(chosen.folder), PATIENCE, "it is empty")
            self.assertLeftAlone(ROOT)
            self.assertLess(min(took), SOON)
            for alarm in ("had been taken away", "Something keeps removing"):
                self.assertNotIn(alarm, daemon.log())
            os.mkdir(chosen.folder)
            daemon.stop()

    def test_unit(self) -> None:
        """A unit is found by its name, wherever its control group is; who is above is not it."""
        with self.group() as parent:
            name = f"nt-{os.getpid()}.service"
            unit = Sender(0, f"{parent.folder}/{name}")
            os.mkdir(unit.folder)
            try:
                daemon = self.only(f"unit:{name}")
                self.assertCaptured(unit)
                self.assertLeftAlone(parent, ROOT)
                waitUntil(lambda: _isRemoved(unit.folder), PATIENCE, "it is empty")
                os.mkdir(unit.folder)
                waitUntil(lambda: TOLD in daemon.log(), FOLLOWED, "it is found again")
                self.assertCaptured(unit)
                self.assertLeftAlone(parent)
                daemon.stop()
            finally:
                waitUntil(lambda: _isRemoved(unit.folder), PATIENCE, "it is empty")

    def test_nobodyListens(self) -> None:
        """What the kernel answers for a program that has ended takes the tunnel as well."""
        with self.group() as group:
            daemon = self.only(f"uid:{ANN.uid}", f"cgroup:/{os.path.basename(group.folder)}")
            self.assertAnswered(ANN, group)
            daemon.stop()

    def test_nobodyListensWithoutNft(self) -> None:
        """So it does with iptables."""
        with self.group() as group:
            daemon = self.withoutNft(group)
            self.assertAnswered(ANN, group)
            daemon.stop()

    def assertAnswered(self, *senders: Sender) -> None:
        """These end before their answers come, and nothing of it leaves by the uplink."""
        names = ("udp_timeout", "udp_timeout_stream")
        self.lab.host.run(["sysctl", "-q", "-w", *(f"{_CONNTRACK}_{each}=1" for each in names)])
        stream = Peer(self.lab.world, trickle)
        self.addCleanup(stream.stop)
        late = {each: UDPServer(self.lab.world, each.world, answerLate) for each in FAMILIES}
        for server in late.values():
            self.addCleanup(server.stop)
        witness = self.uplink()
        for sender in senders:
            for family in FAMILIES:
                ports = (str(late[family].port), str(stream.port))
                argv = (sys.executable, "-c", HASTY, family.world, *ports)
                run(sender.argv(self.lab.host, *argv))
        waitUntil(
            lambda: all(len(each.heard) == len(senders) for each in late.values()),
            PATIENCE,
            "all have asked",
        )
        time.sleep(PROMISE + 3)
        self.assertEqual(witness.destinations(), {})

    def withoutNft(self, group: Sender, **settings: object) -> Child:
        """A daemon for Ann and a group, which finds no nft."""
        hide = 'mount --bind /dev/null $(command -v nft); exec "$@"'
        return self.daemonIn(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", hide, "sh"],
            self.proxy,
            onlyProcesses=[f"uid:{ANN.uid}", f"cgroup:/{os.path.basename(group.folder)}"],
            stackMode=self.stackMode,
            **settings,
        )

    def test_nscd(self) -> None:
        """A program that looks names up for the chosen is named at the start."""
        self.assertNscdNamed(True)

    def test_nscdChosen(self) -> None:
        """It is not if it is chosen as well."""
        cgroupRoot()
        self.assertNscdNamed(False, "unit:nscd.service")

    def assertNscdNamed(self, named: bool, *chosen: str) -> None:
        """A daemon for Ann and C{chosen} says whether nscd looks names up, which it finds."""
        place = "mount -t tmpfs tmpfs /run && mkdir /run/nscd"
        argv = ["unshare", "--mount", "sh", "-c", f'{place} && exec "$0" -c "$1"']
        nscd = Child(self.lab.host.argv([*argv, sys.executable, NSCD]), self.directory / "nscd.log")
        self.addCleanup(nscd.stop)
        waitUntil(lambda: "there" in nscd.output(), PATIENCE, "nscd listens")
        daemon = self.only(f"uid:{ANN.uid}", *chosen)
        self.assertEqual("nscd looks names up for all programs" in daemon.log(), named)
        daemon.stop()

    def test_killSwitch(self) -> None:
        """
        When the daemon is killed, nothing of the chosen leaves, even without its routing rules,
        and everything else does.
        """
        self.forward()
        with self.group() as chosen:
            group = f"cgroup:/{os.path.basename(chosen.folder)}"
            daemon = self.only(f"uid:{ANN.uid}", group, killSwitch=True)
            self.assertCaptured(ANN)
            self.assertCaptured(chosen)
            self.assertLeftAlone(BOB, ROOT)
            daemon.kill()
            for flushed in (False, True):
                if flushed:
                    flush = "ip -4 rule flush protocol 110; ip -6 rule flush protocol 110"
                    self.lab.host.run(["sh", "-c", flush])
                self.assertHeldBack(ANN, chosen)
                for family in FAMILIES:
                    for sender in (BOB, ROOT):
                        self.assertEqual(self.seen(sender, family), family.app)
                for family, own in ((HOST4, NEIGHBOUR4), (HOST6, NEIGHBOUR6)):
                    url = family.url(self.web.port, "/peer")
                    got = self.lab.neighbour.run(["curl", "-q", "-sS", "-g", "-m", "60", url])
                    self.assertEqual(got.stdout, own)
            self.assertEqual(self.recover()[0], 0)
            self.assertEqual(self.seen(ANN, HOST4), HOST4.app)
        self.assertNothingLeft()

    def test_withoutNft(self) -> None:
        """iptables does the same."""
        self.forward()
        with self.group() as chosen:
            daemon = self.withoutNft(chosen, killSwitch=True)
            self.assertIn("NANOSWITCH_CHOSEN", self.lab.host.run(["iptables-save"]).stdout)
            self.assertCaptured(ANN)
            self.assertCaptured(chosen)
            self.assertLeftAlone(BOB, ROOT)
            self.assertForwarded()
            flush = "ip -4 rule flush protocol 110; ip -6 rule flush protocol 110"
            os.kill(daemon.pid, 9)
            waitUntil(lambda: daemon.status() is not None, PATIENCE, "it is killed")
            self.lab.host.run(["sh", "-c", flush])
            self.assertHeldBack(ANN, chosen)
            for family in FAMILIES:
                self.assertEqual(self.seen(BOB, family), family.app)
            self.assertEqual(self.recover()[0], 0)
        saved = self.lab.host.run(["sh", "-c", "iptables-save; ip6tables-save; ip rule"]).stdout
        for word in ("NANOTUN_", "NANOSWITCH_", "110"):
            self.assertNotIn(word, saved)


_CONNTRACK = "net.netfilter.nf_conntrack"


def _isRemoved(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True


engines(globals(), OnlyChecks)
# Otherwise trial would run the base class, too.
del OnlyChecks
