"""
The base classes of the tests of every upstream scheme: the same checks, whichever scheme
carries the flows.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import socket
import time
from typing import TypeVar
from urllib.parse import quote

from twisted.trial.unittest import SkipTest

from nanotun.flow import Endpoint
from tests.e2e.case import TunnelCase
from tests.e2e.lab import curl, pattern
from tests.e2e.lab.daemon import CONNECT_SECONDS, Daemon
from tests.e2e.lab.httpproxies import FORBIDDEN
from tests.e2e.lab.nameserver import ask
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import PASSWORD, USER
from tests.e2e.lab.servers import Server, WebServer
from tests.e2e.lab.topology import FAMILIES, IPV4, Family

_Server = TypeVar("_Server", bound=Server)

REFUSED_PORT = 7000
HOST_PORT = 7001
NET_PORT = 7002

LENGTH = 3 * 1024 * 1024 + 1
SMALL = 20_000
MANY = 64

PROMPT_SECONDS = 1.6
"""As in L{tests.e2e.test_truthful}: a connect(2) that fails at once may take a second."""

BEFORE_THE_DEADLINE = CONNECT_SECONDS / 2
"""Seconds for what does not wait for connectTimeout, however busy the machine is."""

SAID = "info [nanotun.router.said]"
"""Level and namespace of the lines about what a proxy says about a destination."""

CREDENTIALS = f"{USER}:{quote(PASSWORD, safe='')}@"


class ProgramsCase(TunnelCase):
    """
    A test that needs further programs.

    @cvar programs: all of them are required.
    """

    programs: tuple[str, ...] = ()

    def setUp(self) -> None:
        """Skip if one of C{programs} is missing."""
        super().setUp()
        absent = [program for program in self.programs if shutil.which(program) is None]
        if absent:
            reason = f"these programs are missing: {', '.join(absent)}"
            raise SkipTest(reason)

    def started(self, server: _Server) -> _Server:
        """C{server}, which is stopped at the end of the test."""
        self.addCleanup(server.stop)
        return server

    def assertTold(self, daemon: Daemon, *words: str, level: str = "error [") -> str:
        """
        The log has exactly one error, in a line with all of C{words}.

        @param level: L{SAID} for what is said about a destination, without any error.
        @return: the line.
        """
        waitUntil(lambda: f" {level}" in daemon.log(), PATIENCE, f"an error about {words}")
        levels = (f" {level}", " error [")
        lines = {line for line in daemon.log().splitlines() if any(x in line for x in levels)}
        # A check and a flow may see the same end of a connection with a reset and without.
        told = {line.partition("] ")[2].replace(" broke ", " closed ") for line in lines}
        self.assertEqual(len(told), 1, daemon.log())
        line = lines.pop()
        for word in words:
            self.assertIn(word, line)
        return line


class SchemeCase(ProgramsCase):
    """
    One proxy and its URL.

    @cvar families: the IP versions of destinations that it carries.
    @cvar halfClose: whether it can end one direction alone.
    @cvar errors: the errno that the app sees for each of L{REFUSED_PORT}, L{HOST_PORT} and
        L{NET_PORT}.
    @cvar forbids: whether it forbids L{FORBIDDEN}.
    @cvar noDatagrams: words of the one line which says that UDP is not carried; empty if it
        is.
    @cvar noDatagramsLevel: the level of that line.
    """

    seconds = 90

    families: tuple[Family, ...] = FAMILIES
    halfClose = True
    errors = {
        REFUSED_PORT: errno.ECONNREFUSED,
        HOST_PORT: errno.EHOSTUNREACH,
        NET_PORT: errno.ENETUNREACH,
    }
    forbids = False
    noDatagrams = "carries no UDP"
    noDatagramsLevel = "warn"

    def proxyURL(self) -> str:
        """Start the proxy; return its URL."""
        raise NotImplementedError

    def seenAs(self, family: Family) -> str:
        """The client address that a server sees."""
        return family.proxyOutside

    def connectTo(self, family: Family, port: int, host: str = "") -> socket.socket:
        """A connection from the app to the world, or to C{host}."""
        sock = self.lab.app.connect((host or family.world, port))
        self.addCleanup(sock.close)
        return sock

    def errorOf(self, family: Family, port: int, host: str = "") -> str:
        """The name of the errno of a failing connect."""
        try:
            self.connectTo(family, port, host)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        return ""

    def assertFails(self, expected: str, family: Family, port: int, host: str = "") -> None:
        """A connect fails at once, with the errno of this name."""

        def attempt() -> None:
            seen = self.errorOf(family, port, host)
            self.assertEqual(seen, expected, f"{family.name} {host} {port}")

        self.assertQuick(attempt, PROMPT_SECONDS, (family.name, port))


class SchemeChecks(SchemeCase):
    """What must hold for every scheme."""

    def test_carries(self) -> None:
        """
        Bodies arrive whole in both directions, also 64 at once, and half-closes where
        supported.
        """
        web = self.webServer()
        daemon = self.daemon(proxy=self.proxyURL())
        for family in self.families:
            self._transfers(family, web)
            self._speaksFirst(family)
            if self.halfClose:
                self._halfCloses(family)
        self.assertNotIn(" error [", daemon.log())
        self.assertEndsWell(daemon)

    def _transfers(self, family: Family, web: WebServer) -> None:
        app = self.lab.app
        self.assertEqual(curl.get(app, family.url(web.port, "/peer")), self.seenAs(family))
        down = curl.download(app, family.url(web.port, f"/bytes/{LENGTH}"), LENGTH)
        self.assertEqual((down.whole, down.error), (True, ""), family.name)
        up = curl.upload(app, family.url(web.port, "/upload"), LENGTH)
        self.assertEqual((up.whole, up.error), (True, ""), family.name)
        lengths = [SMALL + number for number in range(MANY)]
        urls = {family.url(web.port, f"/bytes/{length}"): length for length in lengths}
        self.assertEqual(curl.downloadMany(app, urls, self.directory), {}, family.name)

    def _speaksFirst(self, family: Family) -> None:
        def speak(connection: socket.socket) -> bytes:
            connection.sendall(b"220 ready\r\n")
            return connection.recv(100)

        peer = self.peer(speak)
        app = self.connectTo(family, peer.port)
        self.assertEqual(app.recv(100), b"220 ready\r\n")
        app.sendall(b"QUIT\r\n")
        self.assertEqual(peer.result(), b"QUIT\r\n")

    def _halfCloses(self, family: Family) -> None:
        def answerAtTheEnd(connection: socket.socket) -> None:
            digest = hashlib.sha256()
            while data := connection.recv(65536):
                digest.update(data)
            time.sleep(0.2)  # So that the end of one direction is there first.
            connection.sendall(digest.hexdigest().encode() + bytes(SMALL))

        app = self.connectTo(family, self.peer(answerAtTheEnd).port)
        app.sendall(pattern.block()[:LENGTH])
        app.shutdown(socket.SHUT_WR)
        heard = b""
        while data := app.recv(65536):
            heard += data
        self.assertEqual(heard, pattern.sha256(LENGTH).encode() + bytes(SMALL), family.name)

    def test_refuses(self) -> None:
        """Connect errors are those that the proxy reports; UDP is refused at once; DNS works."""
        self._filters()
        self.nameServer(IPV4.world)
        self.lab.openDirectPath()
        daemon = self.daemon(proxy=self.proxyURL(), dns=[IPV4.world])
        for family in self.families:
            self._checkErrors(family)
            if self.forbids:
                self._checkForbidden(daemon, family)
        for family in set(FAMILIES) - set(self.families):
            self.assertEqual(self.errorOf(family, REFUSED_PORT), "ENETUNREACH")
        got = ask(self.lab.app, IPV4.gateway, "host.lab", "A")
        self.assertEqual((got.status, got.data), ("NOERROR", ["10.1.2.3"]))
        if self.noDatagrams:
            self._checkDatagrams(daemon)

    def _filters(self) -> None:
        self.lab.filter(
            HOST_PORT, "reject with icmp host-unreachable", "reject with icmpv6 addr-unreachable"
        )
        self.lab.filter(NET_PORT, "reject with icmp net-unreachable", "reject with icmpv6 no-route")

    def _checkErrors(self, family: Family) -> None:
        for port in (REFUSED_PORT, HOST_PORT, NET_PORT):
            self.assertFails(errno.errorcode[self.errors[port]], family, port)

    def _checkForbidden(self, daemon: Daemon, family: Family) -> None:
        """The app sees a refused connection, and one line has the proxy's status and reason."""
        self.assertFails("ECONNREFUSED", family, 80, FORBIDDEN[family])
        said = f"does not allow connections to {Endpoint(FORBIDDEN[family], 80)} (status 403 '"
        waitUntil(lambda: said in daemon.log(), PATIENCE, said)
        (line,) = {line for line in daemon.log().splitlines() if said in line}
        self.assertIn(SAID, line)

    def _checkDatagrams(self, daemon: Daemon) -> None:
        for _ in range(3):
            for family in FAMILIES:
                app = self.datagrams(443, family.world)
                app.send(b"\xc0 a QUIC client's first words")
                began = time.monotonic()
                self.assertRaises(ConnectionRefusedError, app.recv, 100)
                self.assertLess(time.monotonic() - began, BEFORE_THE_DEADLINE)
        told = [line for line in daemon.log().splitlines() if self.noDatagrams in line]
        # On standard error and in the file.
        self.assertEqual(len(told), 2, daemon.log())
        self.assertIn(f" {self.noDatagramsLevel} [", told[0])
