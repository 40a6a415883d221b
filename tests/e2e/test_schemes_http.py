"""
The HTTP schemes, each with a real server.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Callable

from tests.e2e import schemes
from tests.e2e.case import engines
from tests.e2e.lab import curl, tlsfront
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.httpproxies import TINYPROXY_PASSWORD, Squid, Tinyproxy
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import USER
from tests.e2e.lab.tlsfront import WRONG_NAMES, Certificate, Stunnel
from tests.e2e.lab.topology import IPV4, IPV6
from tests.e2e.schemes import CREDENTIALS, HOST_PORT, NET_PORT, REFUSED_PORT
from tests.e2e.test_daemon import assertOneSentence, runToEnd
from tests.e2e.test_truthful import reset, unacknowledged

TINYPROXY_CREDENTIALS = f"{USER}:{TINYPROXY_PASSWORD}@"


class HttpServers(schemes.ProgramsCase):
    """The proxies, and TLS in front of them."""

    programs: tuple[str, ...] = ("openssl", "squid", "stunnel", "tinyproxy")

    def tinyproxy(self) -> int:
        """Start tinyproxy with a password; return its port."""
        return self.started(Tinyproxy(self.lab.proxy, self.directory, auth=True)).port

    def squid(self, auth: str = "", nonceUses: int = 50) -> int:
        """Start squid; return its port."""
        made = Squid(self.lab.proxy, self.directory, auth, nonceUses=nonceUses)
        return self.started(made).port

    def secured(self, behind: int, shown: Certificate, port: int = 4430) -> int:
        """Start stunnel; return its port."""
        return self.started(Stunnel(self.lab.proxy, self.directory, behind, shown, port)).port


class HttpCase(HttpServers, schemes.SchemeChecks):
    """What these proxies have in common: none supports half-closes."""

    halfClose = False
    forbids = True


class TinyproxyChecks(HttpCase):
    """Tinyproxy with a password (Basic).  It has one status for everything that can go wrong."""

    errors = dict.fromkeys((REFUSED_PORT, HOST_PORT, NET_PORT), errno.EHOSTUNREACH)

    def proxyURL(self) -> str:
        return f"http://{TINYPROXY_CREDENTIALS}{IPV4.proxy}:{self.tinyproxy()}"


class SquidChecks(HttpCase):
    """Squid without a password, reached by its IPv6 address."""

    def proxyURL(self) -> str:
        return f"http://[{IPV6.proxy}]:{self.squid()}"


class SquidBasicChecks(HttpCase):
    """Squid with a password (Basic), with the whole handshake sent at once."""

    def proxyURL(self) -> str:
        return f"http://{CREDENTIALS}{IPV4.proxy}:{self.squid('basic')}?pipeline=1"


class SquidDigestChecks(HttpCase):
    """Squid with a password (Digest), whose nonces are soon used up."""

    def proxyURL(self) -> str:
        return f"http://{CREDENTIALS}{IPV4.proxy}:{self.squid('digest', 20)}"


class HttpsChecks(HttpCase):
    """Squid with a password (Digest) behind TLS, with a CA of its own."""

    def proxyURL(self) -> str:
        ca = tlsfront.authority(self.directory)
        port = self.secured(self.squid("digest"), tlsfront.certificate(self.directory, ca))
        return f"https://{CREDENTIALS}{IPV4.proxy}:{port}?ca={ca.cert}"


class HttpsTinyproxyChecks(HttpCase):
    """Tinyproxy behind TLS with a certificate that is not verified."""

    errors = TinyproxyChecks.errors

    def proxyURL(self) -> str:
        port = self.secured(self.tinyproxy(), tlsfront.certificate(self.directory, None))
        return f"https://{TINYPROXY_CREDENTIALS}{IPV4.proxy}:{port}?insecure=1"


class CertificateChecks(HttpServers):
    """Certificates, right and wrong."""

    #: For eleven daemons, one after another.
    seconds = 180

    def test_certificates(self) -> None:
        """A certificate that is not trusted, or for another name, is refused with the reason."""
        web = self.webServer()
        plain = self.squid()
        ca, stranger = tlsfront.authority(self.directory), tlsfront.authority(self.directory, "no")
        alone = tlsfront.certificate(self.directory, None)
        right = self.secured(plain, tlsfront.certificate(self.directory, ca), 4431)
        wrongName = self.secured(plain, tlsfront.certificate(self.directory, ca, WRONG_NAMES), 4432)
        selfSigned = self.secured(plain, alone, 4433)
        host, secure = IPV4.proxy, f"https://{IPV4.proxy}"
        for url, words in (
            (f"{secure}:{right}?ca={ca.cert}", ()),
            (f"https://[{IPV6.proxy}]:{right}?ca={ca.cert}", ()),
            (f"{secure}:{selfSigned}?ca={alone.cert}", ()),
            (f"{secure}:{selfSigned}?insecure=1", ()),
            (f"{secure}:{wrongName}?insecure=1", ()),
            (f"{secure}:{right}", ("not trusted", "issuer", "?ca=")),
            (f"{secure}:{right}?ca={stranger.cert}", ("not trusted", "issuer")),
            (f"{secure}:{wrongName}?ca={ca.cert}", ("not trusted", "mismatch", host)),
            (f"{secure}:{selfSigned}", ("not trusted", "self-signed", "?ca=")),
            (f"{secure}:{plain}?ca={ca.cert}", ("does not speak TLS", "scheme and port")),
            (f"http://{host}:{right}", (host, "the connection")),
        ):
            daemon = self.daemon(proxy=url)
            if words:
                number, _ = self.connectError(web.port)
                self.assertEqual(number, errno.ECONNREFUSED, url)
                self.assertTold(daemon, *words)
            else:
                self.assertEqual(
                    curl.get(self.lab.app, IPV4.url(web.port, "/peer")), IPV4.proxyOutside, url
                )
            self.assertEndsWell(daemon)

    def test_noFile(self) -> None:
        """A file of certificates that is missing or empty is an error at the start."""
        empty = self.directory / "empty.pem"
        empty.write_text("nothing of use\n")
        for path in (self.directory / "absent.pem", empty):
            settings = {"proxy": f"https://{IPV4.proxy}:1?ca={path}"}
            status, output = runToEnd(self, path.stem, settings)
            self.assertEqual(status, 1, output)
            assertOneSentence(self, output, str(path))


class ResetChecks(HttpServers):
    """Resets beyond TLS, with a proxy of the test's own."""

    def test_proxyResets(self) -> None:
        """If the proxy cuts a connection off, the app sees a reset after the data."""

        def cutOff(proxy: ssl.SSLSocket) -> None:
            proxy.sendall(b"half of it")
            proxy.recv(2)
            reset(proxy)

        daemon, flow = self._through(cutOff)
        self.assertEqual(flow.recv(10, socket.MSG_WAITALL), b"half of it")
        flow.sendall(b"go")
        with self.assertRaises(ConnectionResetError):
            flow.recv(1)
        self.assertEndsWell(daemon)

    def test_unread(self) -> None:
        """A reset by the proxy takes nothing from an app that reads slowly, even if it writes."""

        def serve(proxy: ssl.SSLSocket) -> None:
            proxy.sendall(bytes(UNREAD))
            waitUntil(lambda: unacknowledged(proxy) == 0, PATIENCE, "the daemon has all of it")
            reset(proxy)

        daemon, flow = self._through(serve)
        self.assertIsNone(self._proxy.result())
        flow.sendall(b"is there more?")
        time.sleep(0.2)  # For the daemon to hear of it; a slower one passes, too.
        self.assertArrives(flow, UNREAD)
        with self.assertRaises(ConnectionResetError):
            flow.recv(1)
        self.assertEndsWell(daemon)

    def test_proxyEnds(self) -> None:
        """An end without close_notify counts as an end."""
        daemon, flow = self._through(lambda proxy: proxy.sendall(b"all of it"))
        self.assertEqual(flow.recv(10, socket.MSG_WAITALL), b"all of it")
        self.assertEndsWell(daemon)

    def test_appResets(self) -> None:
        """If the app cuts a connection off, it does not look complete to the proxy."""

        def receive(proxy: ssl.SSLSocket) -> bytes:
            proxy.sendall(proxy.recv(10))
            return proxy.recv(1)

        daemon, flow = self._through(receive)
        flow.sendall(b"half of it")
        self.assertEqual(flow.recv(10, socket.MSG_WAITALL), b"half of it")
        reset(flow)
        # OpenSSL has the same message for both; a close_notify would be no error.
        with self.assertRaises((ssl.SSLEOFError, ConnectionResetError)):
            self._proxy.result()
        self.assertEndsWell(daemon)

    def _through(self, after: Callable[[ssl.SSLSocket], object]) -> tuple[Daemon, socket.socket]:
        """A flow through a proxy that calls C{after} with each connection once it is open."""
        ca = tlsfront.authority(self.directory)
        shown = tlsfront.certificate(self.directory, ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(shown.cert, shown.key)

        def serve(connection: socket.socket) -> object:
            with context.wrap_socket(
                connection, server_side=True, suppress_ragged_eofs=False
            ) as proxy:
                request = b""
                while b"\r\n\r\n" not in request:
                    data = proxy.recv(4096)
                    if not data:
                        return None
                    request += data
                proxy.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                return after(proxy)

        self._proxy = self.peer(serve, self.lab.proxy)
        daemon = self.daemon(proxy=f"https://{IPV4.proxy}:{self._proxy.port}?ca={ca.cert}")
        # The check of the start ends without a request.
        with contextlib.suppress(ssl.SSLEOFError):
            self._proxy.result()
        return daemon, self.connect(9)


class StopChecks(HttpServers):
    """The end of a daemon whose flows use TLS."""

    def test_stopWithOpenFlows(self) -> None:
        """SIGTERM ends it within 2 s though flows are open and busy."""
        daemon = self._busy()
        flows = [self.connect(self._peer.port) for _ in range(OPEN_FLOWS)]
        for flow in flows:
            self.assertEqual(len(flow.recv(1)), 1)
        self.assertEndsWell(daemon)
        self.assertNotIn("error", daemon.log())

    def test_fds(self) -> None:
        """Flows leave no descriptor behind, however they end."""
        daemon = self._busy()
        before = daemon.fds()
        for end in (socket.socket.close, reset, _endOneWay):
            flows = [self.connect(self._peer.port) for _ in range(OPEN_FLOWS)]
            for flow in flows:
                self.assertEqual(len(flow.recv(1)), 1)
            self.assertGreaterEqual(daemon.fds(), before + OPEN_FLOWS)
            for flow in flows:
                end(flow)
            waitUntil(
                lambda: daemon.fds() <= before + SPARE_FDS, PATIENCE, f"fds after {end.__name__}"
            )
        self.assertEndsWell(daemon)

    def _busy(self) -> Daemon:
        self._peer = self.peer(chatter, timeout=60)
        ca = tlsfront.authority(self.directory)
        port = self.secured(self.squid("digest"), tlsfront.certificate(self.directory, ca))
        return self.daemon(proxy=f"https://{CREDENTIALS}{IPV4.proxy}:{port}?ca={ca.cert}")


OPEN_FLOWS = 50

UNREAD = 1_000_000
"""
Bytes of which the app's kernel and the engine take 900,000 or less before the app reads; the last
wait in the connection to the proxy.
"""

SPARE_FDS = 2
"""Descriptors that a daemon may open once and keep."""


def chatter(connection: socket.socket) -> None:
    """Send a little all the time, so that the flow is never idle."""
    try:
        while True:
            connection.sendall(b"x" * 100)
            time.sleep(0.05)
    except OSError:
        pass


def _endOneWay(sock: socket.socket) -> None:
    """End our direction, and read what arrives until the end."""
    sock.shutdown(socket.SHUT_WR)
    try:
        while sock.recv(65536):
            pass
    except OSError:
        pass
    sock.close()


for _checks in (
    TinyproxyChecks,
    SquidChecks,
    SquidBasicChecks,
    SquidDigestChecks,
    HttpsChecks,
    HttpsTinyproxyChecks,
    CertificateChecks,
    ResetChecks,
    StopChecks,
):
    engines(globals(), _checks)
# Otherwise trial would run the base classes, too.
del HttpCase, TinyproxyChecks, SquidChecks, SquidBasicChecks, SquidDigestChecks
del HttpsChecks, HttpsTinyproxyChecks, CertificateChecks, ResetChecks, StopChecks, _checks
