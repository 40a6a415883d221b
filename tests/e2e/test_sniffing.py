"""
Names that are read from the first bytes of a flow: what that costs, and what it must not cost.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import time
from functools import partial

from tests.e2e.case import engines
from tests.e2e.lab import curl, nameserver
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.topology import FAMILIES, IPV4, Family
from tests.e2e.rules_case import HTTP, HTTPS, NOBODY, SHARED, RulesCase, addressOf

LENGTH = 5 * 1024 * 1024

LOOK_SECONDS = 1.0
"""Seconds that the first bytes of an app are waited for."""

BANNER = b"220 ready\r\n"

KINDS = ("A", "AAAA")

SOURCES = ["10.79.0.0/30", "fd79::/64"]
"""Addresses of other machines."""


def greet(connection: socket.socket) -> bytes:
    """Speak first, and return what is answered."""
    connection.sendall(BANNER)
    return connection.recv(100)


def clientHello(name: str) -> bytes:
    """The first bytes of a TLS client."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def hearAll(connection: socket.socket) -> bytes:
    """Return what comes until the end."""
    heard = b""
    while data := connection.recv(65536):
        heard += data
    return heard


class SniffingChecks(RulesCase):
    """Flows that are accepted before it is decided where they go."""

    def lookUp(self, *names: str) -> None:
        """Ask the relay for the addresses of names."""
        for name in names:
            for kind in KINDS:
                answer = nameserver.ask(self.lab.app, IPV4.gateway, name, kind)
                self.assertEqual(len(answer.data), 1, name)

    def test_bytes(self) -> None:
        """The server gets every byte that an app has sent, those that were read included."""
        daemon = self.ruled(sniff=True)
        ca = ("--cacert", str(self.ca.cert))
        name = "www.corp.example"
        for family in FAMILIES:
            for scheme, port in (("http", HTTP), ("https", HTTPS)):
                options = (*self.hidden(name, family, port), *ca, "-H", "Expect:")
                with self.by(name):
                    url = f"{scheme}://{name}/upload"
                    sent = curl.upload(self.lab.app, url, LENGTH, *options)
                self.assertEqual((sent.whole, sent.error), (True, ""), f"{scheme} {family.name}")
        self.assertEndsWell(daemon)

    def test_serverFirst(self) -> None:
        """An app that waits for the server to speak waits a moment longer, and goes on."""
        peer = self.peer(greet)
        daemon = self.ruled(sniff=True, sniffPorts=[peer.port])

        def greeted(family: Family) -> None:
            began = time.monotonic()
            with (
                self.carried(usual=1),
                self.lab.app.connect((addressOf("www.corp.example", family), peer.port)) as sock,
            ):
                self.assertEqual(sock.recv(100), BANNER)
                self.assertGreater(time.monotonic() - began, LOOK_SECONDS - 0.05)
                sock.sendall(b"QUIT\r\n")
                self.assertEqual(peer.result(), b"QUIT\r\n")

        for family in FAMILIES:
            self.assertQuick(partial(greeted, family), LOOK_SECONDS + 0.7, family.name)
        self.assertEndsWell(daemon)

    def test_pieces(self) -> None:
        """
        A name that comes in pieces is read, one that takes too long is not, and the server gets
        every byte in either case.
        """
        peer = self.peer(hearAll)
        daemon = self.ruled(sniff=True, sniffPorts=[peer.port])
        hello = clientHello("www.corp.example")
        for family in FAMILIES:
            for pause, usual in ((0.3, 0), (0.7, 1)):
                with (
                    self.carried(usual=usual, office=1 - usual),
                    self.lab.app.connect((addressOf("www.corp.example", family), peer.port)) as app,
                ):
                    for piece in (hello[:1], hello[1:70], hello[70:]):
                        app.sendall(piece)
                        time.sleep(pause)
                    app.shutdown(socket.SHUT_WR)
                    self.assertEqual(peer.result(), hello)
        self.assertEndsWell(daemon)

    def test_held(self) -> None:
        """Apps that go away or say nothing while their name is waited for leave nothing behind."""
        daemon = self.ruled({"to": "reject", "domains": "corp.example"}, sniff=True)
        address = (addressOf("www.corp.example", IPV4), HTTPS)
        before = daemon.fds()
        for _ in range(50):
            self.lab.app.connect(address).close()
        waitUntil(lambda: daemon.fds() <= before, PATIENCE, "the flows are over")
        silent = [self.lab.app.connect(address) for _ in range(50)]
        self.assertEndsWell(daemon)
        for sock in silent:
            with sock, contextlib.suppress(ConnectionResetError):
                self.assertEqual(sock.recv(100), b"")

    def test_machine(self) -> None:
        """
        The flow of another machine, which nobody was asked about, is judged by its name and by
        its source.
        """
        machines = self.lab.plugMachines()
        self.ruled({"to": "office", "domains": "corp.example", "sources": SOURCES}, sniff=True)
        options = ("-q", "-sS", "-m", "60", "--cacert", str(self.ca.cert))
        for family in FAMILIES:
            for name, usual in (("www.corp.example", 0), ("corp.example.org", 1)):
                hidden = self.hidden(name, family)
                with self.carried(usual=usual, office=1 - usual):
                    done = machines.run(["curl", *options, *hidden, f"https://{name}/peer"])
                self.assertEqual(done.stdout, "127.0.0.1")
            with self.carried(usual=1):
                hidden = self.hidden("www.corp.example", family)
                self.fetch("www.corp.example", family, *hidden)

    def test_unlistedPort(self) -> None:
        """At a port that is not one of sniffPorts nothing is waited for."""
        peer = self.peer(greet)
        self.ruled(sniff=True)

        def greeted() -> None:
            with self.carried(usual=1), self.connect(peer.port) as sock:
                self.assertEqual(sock.recv(100), BANNER)

        self.assertQuick(greeted, LOOK_SECONDS)

    def test_shared(self) -> None:
        """
        Where the names of an address are judged differently it has none, unless the name can be
        read.
        """
        one, two = SHARED
        rule = {"to": "office", "domains": [f"={one}"]}
        daemon = self.ruled(rule)
        for family in FAMILIES:
            with self.carried(office=1):
                self.fetch(one, family)
        self.lookUp(two, one)
        for family in FAMILIES:
            for name in SHARED:
                with self.carried(usual=1):
                    told = self.fetch(name, family, *self.hidden(name, family))
                self.assertEqual(told, "127.0.0.1")
        self.assertEndsWell(daemon)
        daemon = self.ruled(rule, sniff=True)
        self.lookUp(two, one)
        for family in FAMILIES:
            for name, usual in ((one, 0), (two, 1)):
                for scheme, port in (("http", HTTP), ("https", HTTPS)):
                    hidden = self.hidden(name, family, port)
                    with self.carried(usual=usual, office=1 - usual):
                        self.assertTrue(self.fetch(name, family, *hidden, scheme=scheme))
        self.assertEndsWell(daemon)

    def refusal(self, family: Family) -> tuple[int, str]:
        """The errno of a connection to a port where nobody listens, and the call it comes from."""
        address = (addressOf(SHARED[0], family), NOBODY)
        try:
            sock = self.lab.app.connect(address, 10)
        except OSError as error:
            return error.errno or 0, "connect"
        with sock:
            try:
                sock.sendall(b"hello")
                sock.recv(100)
            except OSError as error:
                return error.errno or 0, "recv"
        return 0, ""

    def test_alike(self) -> None:
        """
        Where all names of an address are judged alike no flow is accepted before its destination
        is dialled; where they are not, a refusal comes as a reset.
        """
        ports = [HTTP, HTTPS, NOBODY]
        daemon = self.ruled(
            {"to": "office", "domains": "shared.example"}, sniff=True, sniffPorts=ports
        )
        self.lookUp(*SHARED)
        for family in FAMILIES:
            with self.carried(office=1):
                self.fetch(SHARED[0], family)
            self.assertEqual(self.refusal(family), (errno.ECONNREFUSED, "connect"))
        self.assertEndsWell(daemon)
        daemon = self.ruled(
            {"to": "office", "domains": f"={SHARED[0]}"}, sniff=True, sniffPorts=ports
        )
        self.lookUp(*SHARED)
        for family in FAMILIES:
            self.assertEqual(self.refusal(family), (errno.ECONNRESET, "recv"))
        self.assertEndsWell(daemon)

    def test_refused(self) -> None:
        """A name that a rule refuses is heard at once, as a reset, and no proxy hears of it."""
        witness = self.witness()
        daemon = self.ruled({"to": "reject", "domains": "corp.example"}, sniff=True)

        def refused(family: Family) -> None:
            with self.carried():
                options = self.hidden("corp.example", family)
                told = self.curl(family.option, *options, "https://corp.example/peer")
                self.assertEqual(told.returncode, 35, told.stdout)

        for family in FAMILIES:
            self.assertQuick(partial(refused, family), 1.5, family.name)
        self.assertEqual(witness.destinations(), {})
        self.assertEndsWell(daemon)


engines(globals(), SniffingChecks)
# Otherwise trial would run the base class, too.
del SniffingChecks
