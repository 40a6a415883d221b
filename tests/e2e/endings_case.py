"""
What the tests of the kill switch have in common: a machine that keeps sending, an SSH
session, and a witness on the uplink.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

from tests.e2e.lab.host import HOST4, HOST6, NEIGHBOUR4, NEIGHBOUR6, UPLINK, Seen, Witness
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.servers import Peer, WebServer
from tests.e2e.routes_case import FAMILIES, RoutesCase

#: The port of the session that must survive everything.
SSH_PORT = 2222

#: Where the senders send to; nobody listens there.
NOWHERE = 4444

#: Seconds between two rounds of the senders.
PACE = 0.004

WORLD = (HOST4.world, HOST6.world)


def echo(sock: socket.socket) -> None:
    """Send everything back."""
    while data := sock.recv(100):
        sock.sendall(data)


class Senders:
    """
    Send to the world all the time, in both families: datagrams, datagrams of sockets that are
    bound to the uplink, and connections.

    @ivar rounds: how often each has sent.
    """

    def __init__(self, space: Namespace) -> None:
        self.rounds = 0
        self._space = space
        self._stopping = False
        self._sockets: list[tuple[socket.socket, str]] = []
        for family in FAMILIES:
            for device in ("", UPLINK):
                sock = space.makeSocket(family.af, socket.SOCK_DGRAM)
                sock.setblocking(False)
                if device:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
                self._sockets.append((sock, family.world))
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        with self._space.entered():
            while not self._stopping:
                for sock, world in self._sockets:
                    with contextlib.suppress(OSError):
                        sock.sendto(b"out", (world, NOWHERE))
                if self.rounds % 5 == 0:
                    self._connect()
                self.rounds += 1
                time.sleep(PACE)

    def _connect(self) -> None:
        for family in FAMILIES:
            with socket.socket(family.af) as sock, contextlib.suppress(OSError):
                sock.setblocking(False)
                sock.connect((family.world, NOWHERE))

    def boundPorts(self) -> set[str]:
        """The ports of the datagrams that only killSwitch keeps from the uplink."""
        return {
            str(sock.getsockname()[1])
            for sock, _ in self._sockets
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).strip(b"\0")
        }

    def wait(self, rounds: int = 200) -> None:
        """Wait until they have sent as often again."""
        end = self.rounds + rounds
        waitUntil(lambda: self.rounds >= end, PATIENCE, "the senders send")

    def stop(self) -> None:
        """End them; may be called twice."""
        self._stopping = True
        self._thread.join(5)
        for sock, _ in self._sockets:
            sock.close()


class EndingCase(RoutesCase):
    """
    A daemon with a kill switch, and senders that never rest.

    @ivar senders: they run from C{watch} on.
    @ivar watched: the witness, from C{watch} on.
    @ivar sessions: from the world in both families, and from the neighbour.
    """

    seconds = 150
    senders: Senders
    watched: Witness

    def setUp(self) -> None:
        """Open the sessions."""
        super().setUp()
        for space in (self.lab.host, self.lab.neighbour):
            server = Peer(space, echo, SSH_PORT, timeout=120)
            self.addCleanup(server.stop)
        os.environ["SSH_CONNECTION"] = f"{HOST4.world} 50000 {HOST4.app} {SSH_PORT}"
        self.addCleanup(os.environ.pop, "SSH_CONNECTION", None)
        self.sessions = [self.session(family.app) for family in FAMILIES]
        self.sessions.append(self.session(HOST4.app, self.lab.neighbour))
        self.server: WebServer = self.world()
        self.proxy: Dante = self.socks()
        self.before = self.lab.state()

    def session(self, address: str, space: Namespace | None = None) -> socket.socket:
        """Open a session to the host, by default from the world."""
        opened = (space or self.lab.world).connect((address, SSH_PORT), 5)
        self.addCleanup(opened.close)
        return opened

    def watch(self) -> None:
        """From now on, send and watch."""
        self.watched = self.witness()
        self.senders = Senders(self.lab.host)
        self.addCleanup(self.senders.stop)
        self.senders.wait(20)

    def assertAlive(self) -> None:
        """Old and new sessions work, and so does the local network, in both families."""
        for family in FAMILIES:
            with self.session(family.app) as fresh:
                self.assertEchoes(fresh)
        for session in self.sessions:
            self.assertEchoes(session)
        for address in (NEIGHBOUR4, NEIGHBOUR6):
            with self.lab.host.connect((address, SSH_PORT), 5) as near:
                self.assertEchoes(near)

    def assertEchoes(self, session: socket.socket) -> None:
        """The other end still answers."""
        session.sendall(b"still here")
        self.assertEqual(session.recv(100), b"still here")

    def leaked(self) -> list[Seen]:
        """What has left for the world, other than the sessions' packets."""
        return [seen for seen in self.watched.to(*WORLD) if seen.ports[0] != SSH_PORT]

    def assertClosed(self) -> None:
        """Nothing leaves, has left or will leave, and the sessions live."""
        self.senders.wait()
        self.assertAlive()
        self.senders.wait(50)
        self.assertEqual(self.leaked(), [])

    def assertOpen(self) -> None:
        """Everything leaves directly, and nothing of nanotun's is left."""
        self.senders.wait()
        self.assertTrue({seen.protocol for seen in self.leaked()} >= {6, 17})
        self.assertAlive()
        self.assertDirect(self.server)
        self.assertNothingLeft()

    def assertRecovers(self) -> None:
        """C{nanotun recover} opens what was closed."""
        status, said = self.recover()
        self.assertEqual(status, 0, said)
        self.assertOpen()
