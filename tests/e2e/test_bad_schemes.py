"""
Misbehaving SOCKS4, HTTP and HTTPS proxies.
"""

from __future__ import annotations

import errno

from tests.e2e import badschemes
from tests.e2e.case import engines
from tests.e2e.lab import badproxy, tlsfront
from tests.e2e.lab.badproxy import HTTP, Dialect, Loops
from tests.e2e.lab.badsocks import Handler
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.tlsfront import Stunnel
from tests.e2e.lab.topology import IPV4
from tests.e2e.schemes import BEFORE_THE_DEADLINE

BASIC = ('Basic realm="lab"',)
DIGEST = ('Digest realm="lab", qop="auth", nonce="%d"',)
STALE = ('Digest realm="lab", qop="auth", nonce="%d", stale=true',)


class Socks4Checks(badschemes.BadChecks):
    """SOCKS4."""

    def test_replies(self) -> None:
        """Each refusal has its documented errno: 91 is a refusal, the others are also logged."""
        self.handler = badproxy.answers(self.dialect, bytes([0, 91]) + bytes(6))
        daemon = self.daemon(proxy=self.proxied())
        self.assertEqual(self.connectError(80)[0], errno.ECONNREFUSED)
        self.assertNotIn(" error [", daemon.log())
        for code, words in ((92, "identd"), (93, "identd"), (0, "unknown"), (255, "unknown")):
            self.handler = badproxy.answers(self.dialect, bytes([0, code]) + bytes(6))
            self.assertEqual(self.connectError(80)[0], errno.ECONNREFUSED)
            said = f"(reply {code})"
            waitUntil(lambda said=said: said in daemon.log(), PATIENCE, said)  # type: ignore[misc]
            (line,) = {line for line in daemon.log().splitlines() if said in line}
            self.assertIn(words, line)


class HttpChecks(badschemes.BadChecks):
    """HTTP."""

    dialect = HTTP
    credentials = f"someone:{badschemes.SECRET}@"

    def test_tooMuch(self) -> None:
        """Heads and pages without an end are refused in time and reported."""
        start = b"HTTP/1.1 200 OK\r\n"
        page = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n"
        chunked = page + b"Transfer-Encoding: chunked\r\n\r\n"

        def flood(start: bytes, piece: bytes) -> Handler:
            return badproxy.floods(self.dialect, start, piece)

        self.check(
            {
                "endless field": (flood(start + b"X: ", b"x" * 1000), "does not speak HTTP"),
                "endless fields": (flood(start, b"X: y\r\n" * 100), "does not speak HTTP"),
                "endless status": (flood(b"HTTP/1.1 200 ", b"x" * 1000), "does not speak HTTP"),
                "many fields": (
                    badproxy.answers(self.dialect, start + b"X: y\r\n" * 200 + b"\r\n"),
                    "header fields",
                ),
                "interim for ever": (
                    flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 5),
                    "interim answers",
                ),
                "endless page": (flood(chunked, b"400\r\n" + b"x" * 1024 + b"\r\n"), "password"),
            }
        )

    def test_loops(self) -> None:
        """A proxy that keeps requiring a log-in is reported, after a few requests."""
        cases = {
            "Basic": Loops(BASIC),
            "Basic, closes": Loops(BASIC, None),
            "Digest": Loops(DIGEST),
            "Digest, stale": Loops(STALE),
            "Digest, stale, closes": Loops(STALE, None),
            "both": Loops(BASIC + STALE),
            "large page": Loops(BASIC, bytes(200_000)),
        }
        strange = {
            "nothing": (Loops(()), "no scheme at all"),
            "unknown": (Loops(("Negotiate", "NTLM")), "ntlm"),
            "hash": (Loops(('Digest realm="x", nonce="y", algorithm=MD4',)), "digest"),
        }
        self.check({**{name: (loop, "password") for name, loop in cases.items()}, **strange})
        for name, loop in cases.items():
            self.assertIn(loop.requests, (1, 2, 3, 4), name)

    def test_statuses(self) -> None:
        """Each status and each message of a proxy becomes the errno that it stands for."""
        self.daemon(proxy=self.proxied())
        for head, expected in (
            (b"403 No", errno.ECONNREFUSED),
            (b"451 No", errno.ECONNREFUSED),
            (b"404 No", errno.EHOSTUNREACH),
            (b"500 No", errno.EHOSTUNREACH),
            (b"502 No", errno.EHOSTUNREACH),
            (b"503 No", errno.EHOSTUNREACH),
            (b"504 Late", errno.ECONNREFUSED),
            (b"400 No", errno.ECONNREFUSED),
            (b"301 Elsewhere\r\nLocation: http://x/", errno.ECONNREFUSED),
            (b"503 No\r\nX-Squid-Error: ERR_CONNECT_FAIL 111", errno.ECONNREFUSED),
            (b"503 No\r\nX-Squid-Error: ERR_CONNECT_FAIL 101", errno.ENETUNREACH),
            (b"503 No\r\nX-Squid-Error: ERR_CONNECT_FAIL 113", errno.EHOSTUNREACH),
            (b"502 No\r\nProxy-Status: lab; error=connection_refused", errno.ECONNREFUSED),
            (b"502 No\r\nProxy-Status: lab; error=destination_ip_unroutable", errno.ENETUNREACH),
        ):
            answer = b"HTTP/1.1 " + head + b"\r\nContent-Length: 2\r\n\r\nno"
            self.handler = badproxy.answers(self.dialect, answer)
            number, seconds = self.connectError(80)
            self.assertEqual((head, errno.errorcode[number]), (head, errno.errorcode[expected]))
            self.assertLess(seconds, BEFORE_THE_DEADLINE)

    def test_oddHeads(self) -> None:
        """A granted request has no body, whatever its head says, and odd heads are accepted."""
        peer = self.peer(badschemes.echo)
        self.daemon(proxy=self.proxied())
        for head in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.0 200 Connection established\r\n\r\n",
            b"HTTP/1.1 200 \r\n\r\n",
            b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\nVia: lab\n\n",
        ):
            self.handler = badproxy.works(self.dialect, self.lab.proxy, head, b"hello")
            self.echoes(peer.port, b"hello")


class HttpsChecks(HttpChecks):
    """The same through TLS, and TLS itself."""

    programs = ("openssl", "stunnel")

    def urlOf(self, port: int) -> str:
        ca = tlsfront.authority(self.directory)
        shown = tlsfront.certificate(self.directory, ca)
        front = self.started(Stunnel(self.lab.proxy, self.directory, port, shown))
        return self._secured(front.port)

    def _secured(self, port: int) -> str:
        ca = self.directory / "lab-ca.pem"
        return f"https://{self.credentials}{IPV4.proxy}:{port}?ca={ca}"

    def test_noTls(self) -> None:
        """Servers that do not speak TLS, or hang before they do, are reported."""
        hello = Dialect("https", lambda connection: (connection.recv(2000).hex(), 0), b"")
        tlsfront.authority(self.directory)
        peer = self.peer(lambda connection: self.handler(connection), self.lab.proxy)
        wrong = []
        for name, handler, words in (
            ("closes at once", badproxy.closesAtOnce, "the connection before its answer"),
            ("hangs", badproxy.hangs, "did not answer within 2 s"),
            ("garbage", badproxy.answers(hello, bytes(range(200))), "does not speak TLS"),
            ("HTTP", badproxy.answers(hello, b"HTTP/1.1 400 No\r\n\r\n"), "does not speak TLS"),
            ("mirror", badproxy.mirror, "does not speak TLS"),
            ("huge record", badproxy.answers(hello, b"\x16\x03\x03\xff\xff"), ""),
            ("drips", badproxy.drips(hello, b"\x16\x03\x03\x40\x00" + bytes(20)), "within 2 s"),
        ):
            self.handler = handler
            troubles = self.troubles(self._secured(peer.port), words)
            wrong += [f"{name}: {trouble}" for trouble in troubles]
        self.assertEqual(wrong, [])

    def test_cutInTls(self) -> None:
        """A connection that ends anywhere in the TLS handshake, or after it, is refused at once."""
        behind = self.peer(badproxy.answers(HTTP, b"", closes=True), self.lab.proxy)
        self.urlOf(behind.port)
        length = [0]
        cut = self.peer(
            lambda connection: badproxy.cuts(self.lab.proxy, 4430, length[0])(connection),
            self.lab.proxy,
        )
        daemon = self.daemon(proxy=self._secured(cut.port))
        before = daemon.fds()
        for length[0] in [*range(12), *range(12, 1600, 41), 1 << 20]:
            number, seconds = self.connectError(80)
            self.assertEqual((length[0], number), (length[0], errno.ECONNREFUSED))
            self.assertLess(seconds, BEFORE_THE_DEADLINE, f"{length[0]} bytes")
        waitUntil(
            lambda: daemon.fds() <= before + badschemes.SPARE_FDS,
            PATIENCE,
            "the descriptors are closed",
        )


engines(globals(), Socks4Checks)
engines(globals(), HttpChecks)
engines(globals(), HttpsChecks)
# Otherwise trial would run the base classes, too.
del Socks4Checks, HttpChecks, HttpsChecks
