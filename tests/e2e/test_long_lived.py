"""
Sockets that apps keep open while the machine gets other addresses and other uplinks, or sleeps:
datagrams go on from the same socket within the promised time, and a connection that cannot go on
ends with an error.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import sys
import threading
import time
from functools import partial

from tests.e2e.case import engines
from tests.e2e.lab.cell import Running, nanotun
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.host import DNS4, GATEWAY4, GATEWAY6, HOST4, HOST6, UPLINK
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.topology import Family
from tests.e2e.lab.toydns import answer
from tests.e2e.lab.udp import UDPServer, mirror
from tests.e2e.routes_case import FAMILIES, FOLLOWED, PROMISE, RoutesCase

#: Seconds between two datagrams of an app.
PACE = 0.25

#: The host's other addresses: of the same uplink, and of the second one.
NEXT = {"IPv4": "192.168.77.9/24", "IPv6": "2a77::9/64"}
SECOND = {"IPv4": ("192.168.78.2/24", "192.168.78.1"), "IPv6": ("2a78::2/64", "2a78::1")}


class LongLived:
    """
    An app that sends from one socket all the time.

    @ivar answers: when the datagrams were sent that were answered, and the answers: as whom the
        world saw the app.
    """

    def __init__(self, space: Namespace, server: UDPServer, family: Family) -> None:
        self.answers: list[tuple[float, str]] = []
        self._peer = family.world, server.port
        self._stopping = False
        self._socket = space.makeSocket(family.af, socket.SOCK_DGRAM)
        self._socket.settimeout(PACE)
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while not self._stopping:
            began = time.monotonic()
            with contextlib.suppress(OSError):
                self._socket.sendto(b"who am I", self._peer)
                # One that answers an earlier datagram counts less than it could.
                self.answers.append((began, self._socket.recv(100).decode()))
            time.sleep(max(0.0, PACE - (time.monotonic() - began)))

    def seen(self, since: float) -> str:
        """As whom the world saw a datagram that was sent since then; empty if it saw none."""
        return next((text for sent, text in reversed(self.answers) if sent >= since), "")

    def stop(self) -> None:
        """End it; may be called twice."""
        self._stopping = True
        self._thread.join(5)
        self._socket.close()


class MovingCase(RoutesCase):
    """A host whose network changes."""

    seconds = 240
    stackMode: str

    def setUp(self) -> None:
        """Servers that say who asks, in both families."""
        super().setUp()
        self.proxy = self.socks()
        self.servers = {}
        for family in FAMILIES:
            server = UDPServer(self.lab.world, family.world, mirror)
            self.addCleanup(server.stop)
            self.servers[family.name] = server

    def apps(self) -> list[LongLived]:
        """One for each family, which has had an answer."""
        apps = []
        for family in FAMILIES:
            app = LongLived(self.lab.host, self.servers[family.name], family)
            self.addCleanup(app.stop)
            waitUntil(partial(app.seen, 0.0), PATIENCE, "there are answers")
            apps.append(app)
        return apps

    def assertGoOn(self, apps: list[LongLived], seconds: float = FOLLOWED) -> None:
        """What they send from now on is answered soon, and the world sees the proxy."""
        # An answer to what was sent a moment ago would prove nothing.
        since = time.monotonic() + 0.1
        for app, family in zip(apps, FAMILIES, strict=True):
            left = seconds - (time.monotonic() - since)
            waitUntil(partial(app.seen, since), left, f"{family.name} goes on")
            self.assertEqual(app.seen(since).partition(" ")[0], family.proxyOutside)

    def otherAddresses(self) -> None:
        """The uplink gets other addresses, as from another DHCP server."""
        self.lab.host.ip(
            f"addr del {HOST4.app}/24 dev {UPLINK}",
            f"addr del {HOST6.app}/64 dev {UPLINK}",
            f"addr add {NEXT['IPv4']} dev {UPLINK}",
            f"addr add {NEXT['IPv6']} dev {UPLINK} nodad",
            f"route replace default via {GATEWAY4} dev {UPLINK}",
            f"route replace default via {GATEWAY6} dev {UPLINK}",
        )

    def secondUplink(self) -> None:
        """There is a second uplink, whose router lets nobody use the first one's addresses."""
        gateway = self.lab.gateway
        self.lab.host.ip(f"link add wlan0 type veth peer name lan-wlan netns {gateway.name}")
        (four, via4), (six, via6) = SECOND["IPv4"], SECOND["IPv6"]
        gateway.ip(
            f"addr add {via4}/24 dev lan-wlan",
            f"addr add {via6}/64 dev lan-wlan nodad",
            "link set lan-wlan up",
        )
        gateway.nft(
            "table inet spoofed { chain in { type filter hook prerouting priority 0;\n"
            "iifname lan-wlan ip saddr 192.168.77.0/24 drop\n"
            "iifname lan-wlan ip6 saddr 2a77::/64 drop\n}\n}\n"
        )
        self.lab.host.ip(
            "link set wlan0 up",
            f"addr add {four} dev wlan0",
            f"addr add {six} dev wlan0 nodad",
        )

    def useSecond(self) -> None:
        """From now on the second uplink is the way out; the first keeps its addresses."""
        self.lab.host.ip(
            f"route replace default via {SECOND['IPv4'][1]} dev wlan0",
            f"route replace default via {SECOND['IPv6'][1]} dev wlan0",
        )


class MovingChecks(MovingCase):
    """With each engine."""

    def started(self, **settings: object) -> Daemon:
        """A daemon, by default with routes."""
        return self.daemon(self.proxy, stackMode=self.stackMode, **settings)

    def test_otherAddress(self) -> None:
        """After the uplink's address was replaced, datagrams go on."""
        for proxy in FAMILIES:
            daemon = self.started(proxy=self.proxy.url(proxy))
            apps = self.apps()
            self.otherAddresses()
            self.assertGoOn(apps)
            self.assertTrue(daemon.running())
            daemon.stop()
            for app in apps:
                app.stop()
            self.lab.host.ip(
                f"addr del {NEXT['IPv4']} dev {UPLINK}", f"addr del {NEXT['IPv6']} dev {UPLINK}"
            )
            self.lab.plugHost()

    def test_secondUplink(self) -> None:
        """Another uplink takes over, while the first keeps its addresses."""
        self.secondUplink()
        self.started()
        apps = self.apps()
        self.useSecond()
        self.assertGoOn(apps)
        # And back.
        self.lab.plugHost()
        self.lab.host.ip("link set wlan0 down")
        self.assertGoOn(apps)

    def test_firstUplinkGone(self) -> None:
        """The first uplink loses its cable, and another one takes over."""
        self.secondUplink()
        self.started(killSwitch=True)
        apps = self.apps()
        self.lab.host.ip(f"link set {UPLINK} down")
        self.useSecond()
        self.assertGoOn(apps)

    def test_direct(self) -> None:
        """Datagrams that go past the proxy go on as well, from where the machine is now."""
        self.secondUplink()
        self.started(proxy="direct://")
        apps = self.apps()
        for app, family in zip(apps, FAMILIES, strict=True):
            self.assertEqual(app.seen(0.0).split()[0], family.app)
        self.useSecond()
        since = time.monotonic() + 0.1
        for app, family in zip(apps, FAMILIES, strict=True):
            waitUntil(partial(app.seen, since), FOLLOWED, f"{family.name} goes on")
            new = SECOND[family.name][0].partition("/")[0]
            self.assertEqual(app.seen(since).split()[0], new)

    def test_names(self) -> None:
        """Names are looked up within the promised time, also through the proxy."""
        dns = UDPServer(
            self.lab.world,
            DNS4,
            lambda server, query, client: server.sock.sendto(answer(query, HOST4.world), client),
            53,
        )
        self.addCleanup(dns.stop)
        numbers = itertools.count()

        def asked() -> bool:
            name = f"name{next(numbers)}.test"
            kdig = ["kdig", "+short", "+timeout=1", "+retry=0", f"@{HOST4.gateway}", name]
            return HOST4.world in self.lab.host.run(kdig, check=False).stdout

        self.started(dnsVia="proxy")
        waitUntil(asked, PATIENCE, "names are looked up")
        self.otherAddresses()
        waitUntil(asked, FOLLOWED, "names are looked up again")

    def test_restartOfNetworkd(self) -> None:
        """
        A network manager that starts again flushes the rules, routes and addresses that it does
        not know, and renews its own.
        """
        self.started()
        apps = self.apps()
        for _ in range(2):
            self.lab.host.run(
                [
                    "sh",
                    "-ec",
                    "for v in -4 -6; do ip $v rule flush protocol 110; "
                    "ip $v route flush table 28276; ip $v route flush proto static; done; "
                    f"ip addr flush dev nano0; ip addr flush dev {UPLINK} scope global; sleep 0.5",
                ]
            )
            self.lab.plugHost()
            self.assertGoOn(apps)

    def test_renewal(self) -> None:
        """
        A renewal of the same address, which is away for a moment, changes nothing: neither the
        app's outside port nor its connections.
        """
        self.started()
        apps = self.apps()
        peer = self.echoPeer()
        with self.lab.host.connect((HOST4.world, peer.port), 5) as flow:
            before = [app.seen(0.0) for app in apps]
            self.lab.host.run(["sh", "-ec", f"ip addr flush dev {UPLINK} scope global; sleep 0.4"])
            self.lab.plugHost()
            self.assertGoOn(apps)
            flow.sendall(b"still here")
            self.assertEqual(flow.recv(100), b"still here")
            time.sleep(PROMISE)
            self.assertEqual([app.seen(0.0) for app in apps], before)
            flow.sendall(b"still here")
            self.assertEqual(flow.recv(100), b"still here")

    def test_sleep(self) -> None:
        """
        After a sleep, datagrams leave by a new association: the proxy may have forgotten the
        old one.
        """
        daemon = self.started()
        apps = self.apps()
        ports = [app.seen(0.0) for app in apps]
        daemon.send(signal.SIGSTOP)
        time.sleep(14)
        daemon.send(signal.SIGCONT)
        waitUntil(
            lambda: all("" != app.seen(0.0) != port for app, port in zip(apps, ports, strict=True)),
            PROMISE,
            "there are new associations",
        )
        self.assertGoOn(apps)
        self.assertRegex(daemon.log(), "The machine has slept for 1[45-9] s; UDP is sent over new")

    def assertSays(self, daemon: Daemon, words: str) -> None:
        """The daemon's log has these words, or will in a moment."""
        waitUntil(lambda: words in daemon.log(), PATIENCE, "it is logged")

    def echoPeer(self) -> Peer:
        """A server in the world that sends everything back."""

        def echo(sock: socket.socket) -> None:
            while data := sock.recv(100):
                sock.sendall(data)

        return self.peer(echo, self.lab.world, timeout=120)

    def test_connection(self) -> None:
        """
        A connection whose address has left ends with an error, though the app only reads; new
        ones work.
        """
        server, peer = self.world(), self.echoPeer()
        for proxy in FAMILIES:
            daemon = self.started(proxy=self.proxy.url(proxy))
            with self.lab.host.connect((HOST4.world, peer.port), 5) as flow:
                flow.sendall(b"still here")
                self.assertEqual(flow.recv(100), b"still here")
                self.otherAddresses()
                flow.settimeout(FOLLOWED)
                self.assertRaises(ConnectionResetError, flow.recv, 100)
            self.assertSays(daemon, "has left this machine.")
            self.assertThroughProxy(server)
            daemon.stop()
            self.lab.host.ip(
                f"addr del {NEXT['IPv4']} dev {UPLINK}", f"addr del {NEXT['IPv6']} dev {UPLINK}"
            )
            self.lab.plugHost()

    def test_connectionGoesOn(self) -> None:
        """While there is no way out at all, a connection is kept for its address to come back."""
        self.started()
        peer = self.echoPeer()
        with self.lab.host.connect((HOST4.world, peer.port), 20) as flow:
            flow.sendall(b"still here")
            self.assertEqual(flow.recv(100), b"still here")
            self.lab.host.ip(f"link set {UPLINK} down")
            self.lab.host.run(["ip", "addr", "flush", "dev", UPLINK, "scope", "global"])
            time.sleep(2 * PROMISE)
            self.lab.plugHost()
            flow.sendall(b"still here")
            self.assertEqual(flow.recv(100), b"still here")

    def test_withoutRoutes(self) -> None:
        """Without autoDefaultRoute everything is followed as well."""
        self.started(autoDefaultRoute=False)
        self.lab.host.ip(
            f"route add {HOST4.world}/32 dev nano0", f"route add {HOST6.world}/128 dev nano0"
        )
        apps = self.apps()
        self.otherAddresses()
        self.assertGoOn(apps)


engines(globals(), MovingChecks)
# Otherwise trial would run the base class, too.
del MovingChecks

#: Sends all the time, and writes down what comes back.
SCRIPT = """\
import socket, sys, time
family, host, port = socket.AddressFamily(int(sys.argv[1])), sys.argv[2], int(sys.argv[3])
app = socket.socket(family, socket.SOCK_DGRAM)
app.settimeout(0.25)
while True:
    began = time.monotonic()
    try:
        app.sendto(b"who am I", (host, port))
        print(began, app.recv(100).decode(), flush=True)
    except OSError:
        pass
    time.sleep(max(0.0, 0.25 - (time.monotonic() - began)))
"""


class CellTests(MovingCase):
    """A command of C{nanotun run}, whose way out is the host's."""

    def test_otherAddress(self) -> None:
        """Its long-lived socket follows the host's uplink, in both families."""
        for family in FAMILIES:
            server = self.servers[family.name]
            argv = [nanotun(), "run", "--proxy", self.proxy.url(HOST4), "--", sys.executable]
            script = ["-c", SCRIPT, str(int(family.af)), family.world, str(server.port)]
            running = Running(self.lab.host, [*argv, *script], self.directory)
            self.addCleanup(running.kill)
            self.assertIn(family.proxyOutside, running.line())
            self.otherAddresses()
            since = time.monotonic() + 0.1
            deadline = since + FOLLOWED
            while True:
                line = running.line()
                if float(line.split()[0]) >= since:
                    break
            self.assertLess(float(line.split()[0]), deadline)
            running.kill()
            self.lab.host.ip(
                f"addr del {NEXT['IPv4']} dev {UPLINK}", f"addr del {NEXT['IPv6']} dev {UPLINK}"
            )
            self.lab.plugHost()
