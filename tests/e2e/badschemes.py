"""
The base class of the tests of misbehaving proxies, and what must hold for all of their
schemes: the app sees a refused connect in time; the log gives the reason in one sentence,
without the password.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import time
from collections.abc import Mapping

from tests.e2e import schemes
from tests.e2e.lab import badproxy
from tests.e2e.lab.badproxy import SOCKS4
from tests.e2e.lab.badsocks import HANG_SECONDS, Handler
from tests.e2e.lab.daemon import SHORT, SHORT_SECONDS
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.topology import IPV4
from tests.e2e.schemes import SAID

DEADLINE = SHORT_SECONDS + 10.0
"""Seconds: the daemon's own deadline, plus what a busy machine needs.  A proxy hangs longer."""

SECRET = "geheim-4711"

MUTATIONS = 300

SILENT = "No answer about"
"""What is said of a proxy whose whole conversation is the request, and that is silent: the
destination may be what is silent."""

SPARE_FDS = 2
"""Descriptors that a daemon may open once and keep."""


class BadCase(schemes.ProgramsCase):
    """
    One scheme.

    @cvar dialect: the protocol of its proxies.
    @cvar credentials: those in the URL.
    @cvar hanging: words of the line about a proxy that takes a connection and says nothing.
    @ivar handler: the proxy's current behaviour.
    """

    seconds = 120
    dialect = SOCKS4
    credentials = "someone@"
    hanging = SILENT

    def setUp(self) -> None:
        """Begin with a proxy that is useless."""
        super().setUp()
        self.handler: Handler = badproxy.closesAtOnce

    def proxied(self) -> str:
        """The URL of a proxy that behaves like the current C{handler}."""
        peer = self.peer(
            lambda connection: self.handler(connection), self.lab.proxy, timeout=HANG_SECONDS
        )
        return self.urlOf(peer.port)

    def urlOf(self, port: int) -> str:
        """The URL of the proxy on a TCP port."""
        return f"{self.dialect.scheme}://{self.credentials}{IPV4.proxy}:{port}"

    def check(self, cases: Mapping[str, tuple[Handler, str]]) -> None:
        """Every handler is refused in time, with a sentence that contains the words."""
        url = self.proxied()
        wrong = []
        for name, (self.handler, words) in cases.items():
            wrong += [f"{name}: {trouble}" for trouble in self.troubles(url, words)]
        self.assertEqual(wrong, [])

    def troubles(self, url: str, words: str) -> list[str]:
        """What went wrong with a proxy that must be reported with C{words}."""
        # A daemon for each, because a daemon does not repeat a message for a while.
        daemon = self.daemon(proxy=url, connectTimeout=SHORT)
        number, seconds = self.connectError(80)
        troubles = []
        if number != errno.ECONNREFUSED or seconds > DEADLINE:
            troubles.append(f"{os.strerror(number)} after {seconds:.1f} s")
        try:
            level = SAID if words == SILENT else "error ["
            self.assertTold(daemon, f"{self.dialect.scheme}", IPV4.proxy, words, level=level)
        except AssertionError as error:
            troubles.append(str(error))
        if SECRET in daemon.log():
            troubles.append("the password is in the log")
        if not daemon.running():
            troubles.append("the daemon ended")
        daemon.kill()
        return troubles

    def echoes(self, port: int, before: bytes) -> None:
        """The app gets back what it sends to L{echo} on C{port}, preceded by C{before}."""
        app = self.connect(port)
        message = os.urandom(100_000)
        app.sendall(message)
        heard = b""
        # Not until the end, because stunnel loses bytes once one side has ended.
        while len(heard) < len(before + message) and (data := app.recv(65536)):
            heard += data
        self.assertTrue(heard == before + message, f"{len(heard)} bytes, not what was sent")
        app.close()


class BadChecks(BadCase):
    """What must hold for every scheme."""

    def test_useless(self) -> None:
        """Proxies that close, hang, drip or talk nonsense are refused in time and reported."""
        dialect, grant = self.dialect, self.dialect.grant
        garbage = b"\x7f" + random.Random(4).randbytes(5000)
        self.check(
            {
                "closes at once": (badproxy.closesAtOnce, "the connection before its answer"),
                "closes after the request": (
                    badproxy.answers(dialect, b"", closes=True),
                    "closed the connection before its answer",
                ),
                "hangs": (badproxy.hangs, self.hanging),
                "stops before the last byte": (
                    badproxy.answers(dialect, grant[:-1]),
                    "did not answer within 2 s",
                ),
                "drips": (badproxy.drips(dialect, grant[:7]), "did not answer within 2 s"),
                "garbage": (badproxy.answers(dialect, garbage), "does not speak"),
                "mirror": (badproxy.mirror, ""),
            }
        )

    def test_cutAtEachByte(self) -> None:
        """A reply that is cut after any of its bytes is refused; the whole one is not."""
        dialect, grant = self.dialect, self.dialect.grant
        daemon = self.daemon(proxy=self.proxied())
        before = daemon.fds()
        for length in range(len(grant)):
            self.handler = badproxy.answers(dialect, grant[:length], closes=True)
            number, seconds = self.connectError(80)
            self.assertEqual((length, number), (length, errno.ECONNREFUSED))
            self.assertLess(seconds, schemes.BEFORE_THE_DEADLINE)
        peer = self.peer(echo)
        self.handler = badproxy.works(dialect, self.lab.proxy, grant)
        self.echoes(peer.port, b"")
        waitUntil(
            lambda: daemon.fds() <= before + SPARE_FDS, PATIENCE, "the descriptors are closed"
        )

    def test_odd(self) -> None:
        """Odd proxies that work are used: replies byte by byte, or together with the first data."""
        dialect, grant, space = self.dialect, self.dialect.grant, self.lab.proxy
        peer = self.peer(echo)
        self.handler = badproxy.works(dialect, space, grant, pause=0.005)
        self.daemon(proxy=self.proxied())
        self.echoes(peer.port, b"")
        for hello in (b"x", b"glued" * 100, b"HTTP/1.1 407 No\r\n\r\n", bytes(20_000)):
            self.handler = badproxy.works(dialect, space, grant, hello)
            self.echoes(peer.port, hello)

    def test_mutated(self) -> None:
        """After hundreds of mutated replies the daemon still works and holds no descriptor."""
        dialect, grant = self.dialect, self.dialect.grant
        chance = random.Random(1928)
        daemon = self.daemon(proxy=self.proxied())
        before = daemon.fds()
        for _ in range(MUTATIONS):
            reply = badproxy.mutated(grant, chance)
            self.handler = badproxy.answers(dialect, reply, closes=True)
            began = time.monotonic()
            try:
                self.lab.app.connect((IPV4.world, 80)).close()
            except OSError as error:
                self.assertEqual(error.errno, errno.ECONNREFUSED, reply)
            self.assertLess(time.monotonic() - began, schemes.BEFORE_THE_DEADLINE, reply)
        peer = self.peer(echo)
        self.handler = badproxy.works(dialect, self.lab.proxy, grant)
        self.echoes(peer.port, b"")
        waitUntil(
            lambda: daemon.fds() <= before + SPARE_FDS, PATIENCE, "the descriptors are closed"
        )
        self.assertEndsWell(daemon)


def echo(connection: socket.socket) -> None:
    """Send back what arrives."""
    while data := connection.recv(65536):
        connection.sendall(data)
