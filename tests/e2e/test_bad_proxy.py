"""
Misbehaving SOCKS proxies: the app sees a refused connect in time, and the log says why.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from tests.e2e.case import TunnelCase, engines, enginesAndFamilies
from tests.e2e.lab import badsocks
from tests.e2e.lab.daemon import CONNECT_SECONDS, SHORT, SHORT_SECONDS, Daemon
from tests.e2e.lab.process import PATIENCE, LabError, waitUntil
from tests.e2e.lab.topology import IPV4
from tests.e2e.schemes import SAID

DEADLINE = SHORT_SECONDS + 10.0
"""Seconds: the daemon's own deadline, plus a reserve for a busy machine.  A proxy hangs longer."""

CASES: tuple[badsocks.Handler, ...] = (
    badsocks.wrongVersion,
    badsocks.notSocksAtAll,
    badsocks.noMethod,
    badsocks.methodNotOffered,
    badsocks.wrongPassword,
    badsocks.closesAtOnce,
    badsocks.closesAfterGreeting,
    badsocks.closesInsideReply,
    badsocks.hangsAtOnce,
    badsocks.hangsAfterRequest,
    badsocks.dripsForEver,
)


REFUSALS = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ETIMEDOUT)
"""The errnos that an app may see if the proxy is at fault."""


class ProxyCase(TunnelCase):
    """What both kinds of tests need."""

    def _logged(self, daemon: Daemon) -> bool:
        """Whether a line of the log is about what the proxy does, or does not do."""
        levels = (" error [", SAID)

        def said() -> bool:
            return any(
                IPV4.proxy in line and any(level in line for level in levels)
                for line in daemon.log().splitlines()
            )

        try:
            # The line may be written after the refusal.
            waitUntil(said, PATIENCE, "a line about the proxy")
        except LabError:
            return False
        return True


class BadProxyCase(ProxyCase):
    """Proxies that are handlers of the tests."""

    def _proxied(self, handler: Callable[[], badsocks.Handler], credentials: str = "") -> str:
        """The URL of a proxy that behaves like the current C{handler}."""
        peer = self.peer(
            lambda connection: handler()(connection), self.lab.proxy, timeout=badsocks.HANG_SECONDS
        )
        return f"socks5://{credentials}{IPV4.proxy}:{peer.port}"


class UselessProxyChecks(BadProxyCase):
    """Proxies that never carry anything."""

    seconds = 120

    def test_refusedInTimeAndLogged(self) -> None:
        """Every bad proxy causes a refused connect within the deadline, and a line in the log."""
        wrong = [trouble for handler in CASES for trouble in self._troubles(handler)]
        self.assertEqual(wrong, [])

    def _troubles(self, handler: badsocks.Handler) -> list[str]:
        # A daemon for each, because a daemon does not repeat a message for a while.
        url = self._proxied(lambda: handler, "someone:secret@")
        daemon = self.daemon(proxy=url, connectTimeout=SHORT)
        number, seconds = self.connectError(80)
        troubles = []
        if number not in REFUSALS or seconds > DEADLINE:
            troubles.append(f"{os.strerror(number)} after {seconds:.1f} s")
        if not self._logged(daemon):
            troubles.append(f"the log says only {daemon.log()!r}")
        if "secret" in daemon.log():
            troubles.append("the password is in the log")
        if not daemon.running():
            troubles.append("the daemon ended")
        daemon.stop()
        return [f"{handler.__name__}: {trouble}" for trouble in troubles]


class BadProxyChecks(BadProxyCase):
    """Proxies that answer, though oddly."""

    def test_replyCodes(self) -> None:
        """
        Every refusal code of a proxy becomes the errno that the app would have seen without
        it.
        """
        current = [1]
        self.daemon(proxy=self._proxied(lambda: badsocks.replies(current[0])))
        seen = {}
        for code in range(1, 9):
            current[0] = code
            seen[code] = errno.errorcode.get(self.connectError(80)[0], "timed out")
        self.assertEqual(
            {code: seen[code] for code in (3, 4, 5)},
            {3: "ENETUNREACH", 4: "EHOSTUNREACH", 5: "ECONNREFUSED"},
        )
        for code in (1, 2, 6, 7, 8):
            self.assertIn(
                seen[code],
                ("ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EACCES", "ETIMEDOUT"),
                f"code {code}",
            )

    def test_slowButRight(self) -> None:
        """A proxy that answers byte by byte, with a name as its bound address, works."""
        peer = self.peer(_echo)
        self.daemon(proxy=self._proxied(lambda: badsocks.oneByteAtATime(self.lab.proxy)))
        self._echoes(peer.port, b"")

    def test_bytesAfterTheReply(self) -> None:
        """Data that arrives in one piece with the proxy's reply reaches the app in order."""
        peer = self.peer(_echo)
        self.daemon(
            proxy=self._proxied(lambda: badsocks.replyGlued(self.lab.proxy, b"glued" * 100))
        )
        self._echoes(peer.port, b"glued" * 100)

    def _echoes(self, port: int, before: bytes) -> None:
        app = self.connect(port)
        message = os.urandom(100_000)
        app.sendall(message)
        app.shutdown(socket.SHUT_WR)
        heard = b""
        while data := app.recv(65536):
            heard += data
        self.assertEqual(heard, before + message)


def _echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


class ProxyAwayChecks(ProxyCase):
    """A proxy that cannot be reached."""

    def test_down(self) -> None:
        """
        If the proxy is down, a connect is refused at once; once it is up again, connects
        work.
        """
        peer = self.peer(_echo)
        self.daemon(proxy=f"socks5://{IPV4.proxy}:1080")
        number, seconds = self.connectError(peer.port)
        self.assertIn(number, REFUSALS)
        self.assertLess(seconds, CONNECT_SECONDS / 2)
        self.dante()
        self.assertIsNotNone(self.connect(peer.port))

    def test_unreachable(self) -> None:
        """If the proxy's host is silent, a connect is refused within the deadline."""
        self.lab.filter(1080, "drop", "drop", self.lab.proxy)
        daemon = self.daemon(proxy=f"socks5://{IPV4.proxy}:1080", connectTimeout=SHORT)
        number, seconds = self.connectError(80)
        self.assertIn(number, REFUSALS)
        self.assertLess(seconds, DEADLINE)
        self.assertTrue(self._logged(daemon), daemon.log())


enginesAndFamilies(globals(), BadProxyChecks)
engines(globals(), UselessProxyChecks)
engines(globals(), ProxyAwayChecks)
# Otherwise trial would run the base classes, too.
del BadProxyChecks, ProxyAwayChecks, UselessProxyChecks
