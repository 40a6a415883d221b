"""
The main job: what an app does over TCP works through the tunnel.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time

from tests.e2e.case import LabCase, TunnelCase, engines, enginesAndFamilies
from tests.e2e.lab import curl, pattern
from tests.e2e.lab.daemon import Daemon, answers
from tests.e2e.lab.process import PATIENCE
from tests.e2e.lab.proxies import Dante, Microsocks
from tests.e2e.lab.servers import Iperf, Peer
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6, TUN_NAME, Family, Lab

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
HALF_CLOSE_SECONDS = 30.0
"""Seconds that data follows a half-close: longer than any careless linger timer."""


class GatewayChecks(TunnelCase):
    """The virtual gateway."""

    def test_ping(self) -> None:
        """Both gateway addresses answer ping while the daemon runs, and not afterwards."""
        daemon = self.tunnel()
        for family in FAMILIES:
            argv = [
                "ping",
                family.option,
                "-n",
                "-c",
                "5",
                "-i",
                "0.05",
                "-W",
                "20",
                family.gateway,
            ]
            self.assertIn(" 0% packet loss", self.lab.app.run(argv).stdout)
        self.assertEndsWell(daemon)
        for family in FAMILIES:
            self.assertFalse(answers(self.lab.app, family))

    def test_largePing(self) -> None:
        """A ping as large as the MTU returns whole."""
        self.tunnel()
        for family, header in ((IPV4, 28), (IPV6, 48)):
            size = str(1500 - header)
            argv = [
                "ping",
                family.option,
                "-n",
                "-c",
                "2",
                "-i",
                "0.05",
                "-W",
                "1",
                "-s",
                size,
                family.gateway,
            ]
            self.assertIn(" 0% packet loss", self.lab.app.run(argv).stdout)

    def test_addressesAndRoutes(self) -> None:
        """The kernel has .2 and ::2, and the routes that a user types lead to the gateway."""
        self.tunnel()
        addresses = self.lab.app.run(["ip", "-o", "addr", "show", "dev", TUN_NAME]).stdout
        self.assertIn("198.18.0.2/30", addresses)
        self.assertIn("fdfe:dcba:9876::2/126", addresses)
        for family in FAMILIES:
            self.assertNotIn(f"{family.gateway}/", addresses)
            route = self.lab.app.run(["ip", family.option, "route", "get", family.world]).stdout
            self.assertIn(f"via {family.gateway} dev {TUN_NAME}", route)

    def test_tcpToGatewayIsDropped(self) -> None:
        """TCP to the gateway is neither accepted nor refused, but ignored."""
        self.tunnel()
        for family in FAMILIES:
            with self.assertRaises(socket.timeout):
                self.lab.app.connect((family.gateway, 443), 1.5)


class TransferChecks(TunnelCase):
    """Bodies arrive whole."""

    def test_gibibyteEachWay(self) -> None:
        """A body of 1 GiB arrives whole by curl, in either direction."""
        web = self.webServer()
        self.tunnel()
        down = curl.download(
            self.lab.app, self.family.url(web.port, f"/bytes/{GIBIBYTE}"), GIBIBYTE
        )
        self.assertEqual((down.whole, down.error), (True, ""))
        up = curl.upload(self.lab.app, self.family.url(web.port, "/upload"), GIBIBYTE)
        self.assertEqual((up.whole, up.error), (True, ""))
        self.assertEqual(set(web.peers()), {self.family.proxyOutside})

    def test_parallelDownloads(self) -> None:
        """64 downloads of different lengths at once all arrive whole."""
        web = self.webServer()
        self.tunnel()
        lengths = [MEBIBYTE * (1 + number % 8) + number for number in range(64)]
        urls = {self.family.url(web.port, f"/bytes/{length}"): length for length in lengths}
        self.assertEqual(len(urls), 64)
        self.assertEqual(curl.downloadMany(self.lab.app, urls, self.directory), {})

    def test_proxies(self) -> None:
        """Dante with a password and microsocks with a password work, too."""
        web = self.webServer()
        length = 4 * MEBIBYTE + 1
        for proxy in (
            self.dante(auth=True),
            Microsocks(self.lab.proxy, self.directory, auth=True),
        ):
            self.addCleanup(proxy.stop)
            daemon = self.daemon(proxy=proxy.url())
            got = curl.download(self.lab.app, self.family.url(web.port, f"/bytes/{length}"), length)
            self.assertEqual((got.whole, got.error), (True, ""))
            self.assertNotIn("p@ss", daemon.log())
            self.assertNotIn("p%40ss", daemon.log())
            self.assertEndsWell(daemon)

    def test_direct(self) -> None:
        """
        With C{direct://} the flow leaves by the kernel's own routes, not back into the
        tunnel.
        """
        web = self.webServer()
        self.lab.openDirectPath()
        self.daemon(proxy="direct://")
        length = 64 * MEBIBYTE
        got = curl.download(self.lab.app, self.family.url(web.port, f"/bytes/{length}"), length)
        self.assertEqual((got.whole, got.error), (True, ""))
        self.assertEqual(web.peers(), [self.family.app])

    def test_iperf3(self) -> None:
        """iperf3 with eight streams in both directions at once ends without an error."""
        server = Iperf(self.lab.world, self.directory)
        self.addCleanup(server.stop)
        self.tunnel()
        argv = ["iperf3", "-J", "-c", self.family.world, "-P", "8", "-t", "1", "--bidir"]
        report = json.loads(self.lab.app.run(argv).stdout)
        self.assertNotIn("error", report)
        for direction in ("sum_received", "sum_received_bidir_reverse"):
            self.assertGreater(report["end"][direction]["bytes"], MEBIBYTE, direction)

    def test_socat(self) -> None:
        """socat sends a file, ends its direction, and receives all of it back."""

        def echo(connection: socket.socket) -> None:
            while data := connection.recv(65536):
                connection.sendall(data)

        peer = self.peer(echo)
        self.tunnel()
        path = self.directory / "sent"
        path.write_bytes(pattern.block()[: 3 * MEBIBYTE + 1])
        host = f"[{self.family.world}]" if self.family is IPV6 else self.family.world
        heard = self.directory / "heard"
        pipe = f"socat -t 10 - TCP:{host}:{peer.port} < {path} > {heard}"
        self.lab.app.run(["sh", "-c", pipe])
        self.assertTrue(heard.read_bytes() == path.read_bytes(), "not what was sent")

    def test_serverSpeaksFirst(self) -> None:
        """What a server sends before the client arrives, and so does the answer after it."""

        def speak(connection: socket.socket) -> bytes:
            connection.sendall(b"220 ready\r\n")
            return connection.recv(100)

        peer = self.peer(speak)
        self.tunnel()
        app = self.connect(peer.port)
        self.assertEqual(app.recv(100), b"220 ready\r\n")
        app.sendall(b"QUIT\r\n")
        self.assertEqual(peer.result(), b"QUIT\r\n")

    def test_closedAtOnce(self) -> None:
        """A server that sends one word and closes is heard to the end, 50 times."""
        peer = self.peer(lambda connection: connection.sendall(b"daytime\n"))
        self.tunnel()
        for _ in range(50):
            app = self.connect(peer.port)
            self.assertEqual((app.recv(100), app.recv(100)), (b"daytime\n", b""))
            app.close()


class ProxyURLChecks(TunnelCase):
    """The proxy's URL in the forms that users write."""

    def test_forms(self) -> None:
        """A bare host:port and an IPv6 literal name the same proxy."""
        web = self.webServer()
        dante = self.dante()
        forms = [f"{IPV4.proxy}:{dante.port}", dante.url(), dante.url(IPV6)]
        for form in forms:
            daemon = self.daemon(proxy=form)
            for family in FAMILIES:
                seen = curl.get(self.lab.app, family.url(web.port, "/peer"))
                self.assertEqual(seen, family.proxyOutside, form)
            self.assertEndsWell(daemon)


class HalfCloseTests(LabCase):
    """One side ends its direction; the other continues for a long time."""

    seconds = int(HALF_CLOSE_SECONDS) + 60

    def test_halfClose(self) -> None:
        """Data that follows a half-close for 30 s arrives, in either direction, on both engines."""
        flows: list[_HalfClosed] = []
        for stackMode in ("gvisor", "simple"):
            lab = Lab()
            self.addCleanup(lab.remove)
            directory = self.directory / stackMode
            directory.mkdir()
            dante = Dante(lab.proxy, directory)
            self.addCleanup(dante.stop)
            daemon = Daemon(lab.app, directory, stackMode=stackMode, proxy=dante.url())
            self.addCleanup(daemon.kill)
            lab.routeThroughTunnel()
            for family in FAMILIES:
                for talker in ("app", "server"):
                    flow = _HalfClosed(
                        f"{stackMode} {family.name}, the {talker} goes on", lab, family, talker
                    )
                    self.addCleanup(flow.peer.stop)
                    flows.append(flow)
        for flow in flows:
            flow.start()
        self.assertEqual([flow.name for flow in flows if not flow.came()], [])


class _HalfClosed:
    """
    One connection: the listener's side ends first, the talker continues until the time is
    over.
    """

    def __init__(self, name: str, lab: Lab, family: Family, talker: str) -> None:
        self.name = name
        self._talker = talker
        self._heard = 0
        self._said = 0
        self._errors: list[BaseException] = []
        self.peer = Peer(
            lab.world,
            lambda sock: self._run(sock, talker == "server"),
            timeout=HALF_CLOSE_SECONDS + 20,
        )
        self._app = lab.app.connect((family.world, self.peer.port))
        self._app.settimeout(HALF_CLOSE_SECONDS + 20)
        self._thread = threading.Thread(
            target=self._run, args=(self._app, talker == "app"), daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def _run(self, sock: socket.socket, talks: bool) -> None:
        try:
            self._talk(sock) if talks else self._listen(sock)
        except BaseException as error:
            self._errors.append(error)

    def _talk(self, sock: socket.socket) -> None:
        if sock.recv(10) != b"":
            raise AssertionError("the half-close did not arrive")
        end = time.monotonic() + HALF_CLOSE_SECONDS
        while time.monotonic() < end:
            sock.sendall(bytes(1000))
            self._said += 1000
            time.sleep(min(HALF_CLOSE_SECONDS / 3, max(0.0, end - time.monotonic())))
        sock.sendall(bytes(300_000))
        self._said += 300_000
        sock.shutdown(socket.SHUT_WR)

    def _listen(self, sock: socket.socket) -> None:
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(65536):
            self._heard += len(data)

    def came(self) -> bool:
        """Wait for the end; return whether everything that was sent was received."""
        self._thread.join(HALF_CLOSE_SECONDS + 30)
        with_result = self.peer.results.get(timeout=PATIENCE)
        self._app.close()
        self.name += (
            f" (said {self._said}, heard {self._heard}, errors {self._errors}, {with_result})"
        )
        return not self._errors and self._heard == self._said > 300_000


class PingLossTests(LabCase):
    """Nothing but the daemon answers for the gateway."""

    def test_kernelDoesNotAnswer(self) -> None:
        """
        Without a daemon nothing answers for the gateway, so an answer proves that the tunnel
        works.
        """
        for family in FAMILIES:
            argv = ["ping", family.option, "-n", "-c", "1", "-W", "1", family.gateway]
            output = self.lab.app.run(argv, check=False).stdout
            self.assertFalse(re.search(r"\b1 received", output), output)


engines(globals(), GatewayChecks)
engines(globals(), ProxyURLChecks)
enginesAndFamilies(globals(), TransferChecks)
# Otherwise trial would run the base classes, too.
del GatewayChecks, ProxyURLChecks, TransferChecks
