"""
Tests of L{nanotun.upstream.schemes} and L{nanotun.upstream.reject}: from the URL to
the connection, on real sockets of the loopback interface.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import (
    AuthenticationError,
    DatagramsUnsupported,
    FamilyUnsupported,
    ProxyError,
    UpstreamError,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Authentication,
    IHealthCheck,
    IScheme,
    IUpstream,
    NeededFiles,
    ProxyURL,
)
from nanotun.upstream.dial import secure
from nanotun.upstream.proxy import ProxyUpstream
from nanotun.upstream.reject import RejectUpstream
from nanotun.upstream.scheme import canChain, sendsNamesWith
from nanotun.upstream.schemes.table import BUILT_IN, parseProxyURL
from tests import ROOT
from tests.unit.upstream.upstream_cases import (
    DESTINATION,
    FakeReactor,
    ReactorCase,
    unmarkedContext,
)

GRANTED = bytes.fromhex("00 5a 0000 00000000")
OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
ASK = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=r\r\n"
BASIC = b"Proxy-Authorization: Basic YW5uOnNlY3JldA=="


class SchemeTests(ReactorCase):
    """Legs through a proxy that follows a script."""

    def upstream(self, text: str) -> ProxyUpstream:
        """The upstream of a URL, with unmarked sockets."""
        url = parseProxyURL(text)
        upstream = url.scheme.make(url, unmarkedContext(self.reactor))
        assert isinstance(upstream, ProxyUpstream)
        return upstream

    def turn(self) -> Deferred[None]:
        """Fires after the reactor's next turn."""
        return deferLater(self.reactor, 0, lambda: None)

    async def opens(self, upstream: ProxyUpstream, destination: Endpoint = DESTINATION) -> bytes:
        """Open a leg; returns its leftover."""
        connection = await upstream.connect(destination)
        os.close(connection.fd)
        self.assertClean()
        return connection.leftover

    async def test_socks4(self) -> None:
        """SOCKS4 sends the user id, and SOCKS4A the name."""
        port = self.listen(GRANTED + b"220 hello")
        upstream = self.upstream(f"socks4://ann@127.0.0.1:{port}")
        self.assertEqual(await self.opens(upstream), b"220 hello")
        self.assertIn(b"ann\0", self.scripts[0].heard)
        upstream = self.upstream(f"socks4a://127.0.0.1:{port}")
        await self.opens(upstream, Endpoint("example.com", 80))
        self.assertTrue(self.scripts[1].heard.endswith(b"example.com\0"))
        await self.ended()

    async def test_cannotBeAsked(self) -> None:
        """A destination that the scheme cannot carry fails without a connection."""
        upstream = self.upstream(f"socks4://127.0.0.1:{self.listen()}")
        await self.failure(FamilyUnsupported, upstream.connect(Endpoint("::1", 80)))
        upstream = self.upstream(f"http://127.0.0.1:{self.listen()}")
        await self.failure(UpstreamError, upstream.connect(Endpoint("a b", 80)))
        upstream = self.upstream(f"socks5://127.0.0.1:{self.listen()}")
        await self.failure(UpstreamError, upstream.connect(Endpoint("x" * 256, 80)))
        self.assertEqual(self.scripts, [])

    async def test_http(self) -> None:
        """CONNECT opens a leg, and what follows the answer is left over."""
        port = self.listen(OPEN + b"220 hello")
        upstream = self.upstream(f"http://127.0.0.1:{port}")
        self.assertEqual(await self.opens(upstream), b"220 hello")
        await self.ended()

    async def test_again(self) -> None:
        """
        A proxy that closes after its 407, or in the middle of it, is dialled once more;
        the second answer is final.
        """
        for ending in (b"Connection: close\r\n\r\n", b"Content-Length: 9\r\n\r\ncut"):
            self.scripts.clear()
            port = self.listen(ASK + ending, b"")
            leg = self.upstream(f"http://ann:secret@127.0.0.1:{port}").connect(DESTINATION)
            while not self.scripts or not self.scripts[0].heard:
                await self.turn()
            if b"cut" in ending:
                self.scripts[0].transport.loseConnection()  # type: ignore[union-attr]
            await self.failure(AuthenticationError, leg)
            first, second = self.scripts
            self.assertNotIn(BASIC, first.heard)
            self.assertIn(BASIC, second.heard)
            await self.ended()

    async def test_eager(self) -> None:
        """With pipeline=1 the credentials are in the first request."""
        port = self.listen(OPEN)
        upstream = self.upstream(f"http://ann:secret@127.0.0.1:{port}?pipeline=1")
        await self.opens(upstream)
        self.assertIn(BASIC, self.scripts[0].heard)
        await self.ended()

    def test_eagerWhereTrusted(self) -> None:
        """
        Inside TLS the credentials are in the first request, unless the certificate is
        not checked.
        """
        for query, eager in (("", True), ("?insecure=1", False)):
            upstream = self.upstream(f"https://ann:secret@h{query}")
            handshake: Any = upstream._handshakes.connect(DESTINATION)
            self.assertEqual(BASIC in handshake._inner.begin(), eager, query)

    async def test_unixSocket(self) -> None:
        """A proxy is reached on its unix socket, and a missing socket is named."""
        path = os.path.abspath(self.mktemp())
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            leg = self.upstream(f"http://{path}").connect(DESTINATION)
            proxy, _ = listener.accept()
            with proxy:
                self.assertIn(b"CONNECT 192.0.2.1:443", proxy.recv(4096))
                proxy.send(OPEN)
                connection = await leg
                os.write(connection.fd, b"hello")
                self.assertEqual(proxy.recv(4096), b"hello")
                os.close(connection.fd)
            upstream = self.upstream(f"socks5://{path}")
            await self.assertFailure(upstream.associate(4), DatagramsUnsupported)
        os.unlink(path)
        text = await self.failure(ProxyError, upstream.connect(DESTINATION))
        self.assertIn(f"cannot be reached at {path}", text)

    async def test_noDatagrams(self) -> None:
        """Schemes without UDP say so at once."""
        for text in ("socks4://h", "socks4a://h", "http://h", "https://h"):
            await self.assertFailure(self.upstream(text).associate(4), DatagramsUnsupported)


def urlOf(scheme: IScheme) -> ProxyURL:
    """A URL with everything that the scheme's URLs may say about the user."""
    user = {
        Authentication.NONE: "",
        Authentication.USER: "ann@",
        Authentication.PASSWORD: "ann:secret@",
    }[scheme.authentication]
    place = "" if scheme.defaultPort is None else f"{user}h"
    return parseProxyURL(f"{scheme.name}://{place}")


class BuiltInTests(SynchronousTestCase):
    """The entries of L{BUILT_IN}."""

    def test_all(self) -> None:
        """Every scheme makes an upstream that hides its password and does what the entry says."""
        for scheme in BUILT_IN:
            verifyObject(IScheme, scheme)
            url = urlOf(scheme)
            upstream = scheme.make(url, unmarkedContext(FakeReactor()))
            verifyObject(IUpstream, upstream)
            verifyObject(IHealthCheck, upstream)
            self.assertIn(f"{scheme.name}://", upstream.describe())
            self.assertNotIn("secret", upstream.describe())
            self.assertEqual(upstream.carriesDatagrams, scheme.carriesDatagrams)
            if not scheme.dialsDestination:
                self.assertEqual(upstream.sendsNames, scheme.sendsNames)
            self.assertEqual(scheme.notices(url), ())

    def test_sendsNames(self) -> None:
        """The schemes that send names are these."""
        sending = {scheme.name for scheme in BUILT_IN if scheme.sendsNames}
        self.assertEqual(sending, {"socks5h", "socks4a", "http", "https"})

    def test_takesNames(self) -> None:
        """With fake addresses every proxy is sent names but that of SOCKS4, which has none."""
        sending = {scheme.name for scheme in BUILT_IN if sendsNamesWith(scheme, True)}
        self.assertEqual(sending, {"socks5", "socks5h", "socks4a", "http", "https"})
        for scheme in BUILT_IN:
            self.assertEqual(sendsNamesWith(scheme, False), scheme.sendsNames, scheme)

    def test_sharedTls(self) -> None:
        """Certificates are read once for all that trust the same, unless nothing is shared."""
        read: list[str] = []

        def note(ca: str) -> bytes:
            read.append(ca)
            return b""

        self.patch(secure, "readAuthorities", note)
        urls = [parseProxyURL(f"https://{text}") for text in ("a", "b", "{user}@b", "b?ca=/ca")]
        context = unmarkedContext(FakeReactor())
        shares: tuple[dict[Any, Any] | None, ...] = ({}, None)
        for shared in shares:
            for url in urls:
                url.scheme.make(url, context._replace(shared=shared))
        self.assertEqual(read, ["", "/ca", "", "", "", "/ca"])

    def test_chains(self) -> None:
        """Every proxy can be dialled through another upstream; there is none with direct://."""
        chaining = {scheme.name for scheme in BUILT_IN if canChain(scheme)}
        self.assertEqual(chaining, {scheme.name for scheme in BUILT_IN if scheme.defaultPort})

    def test_files(self) -> None:
        """The certificates' file is read, and the unix socket is written to."""
        for text, expected in (
            ("https://h", NeededFiles()),
            ("https://h?ca=/c/a.pem", NeededFiles(read=("/c/a.pem",))),
            ("https://h?insecure=1", NeededFiles()),
            ("socks5:///s/sock?pipeline=1", NeededFiles(written=("/s/sock",))),
        ):
            url = parseProxyURL(text)
            self.assertEqual(url.scheme.files(url), expected, text)

    def test_notices(self) -> None:
        """The user is told that a certificate is not checked, without the password."""
        url = parseProxyURL("https://ann:secret@h?insecure=1")
        (notice,) = url.scheme.notices(url)
        self.assertIn("https://ann:***@h:443?insecure=1", notice)

    def test_cheap(self) -> None:
        """Reading a URL imports no HTTP, TLS, upstream or plugin code."""
        script = (
            "import sys, nanotun.upstream.schemes.table as table\n"
            "table.parseProxyURL('https://h')\n"
            "print(*(m for m in ('h11', 'ssl', 'twisted.plugin', 'nanotun.upstream.proxy',"
            " 'nanotun.upstream.plugin') if m in sys.modules))"
        )
        found = subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT
        )
        self.assertEqual(found.stdout.strip(), "")

    def test_reject(self) -> None:
        """reject:// opens nothing, and apps see it at once."""
        upstream = RejectUpstream()
        error = self.failureResultOf(upstream.connect(DESTINATION), UpstreamRefused)
        self.assertIn("192.0.2.1:443", str(error.value))
        self.failureResultOf(upstream.associate(6), DatagramsUnsupported)
