"""
Tests of L{nanotun.upstream.handshakes.tls}, against a server of the same library.
"""

from __future__ import annotations

import ssl

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import HandshakeError, ProxyError, UpstreamForbids
from nanotun.flow import Endpoint
from nanotun.interfaces import IHandshake
from nanotun.upstream.handshakes.http import HttpHandshake
from nanotun.upstream.handshakes.httplogin import HttpLogin
from nanotun.upstream.handshakes.tls import TlsHandshake
from nanotun.upstream.tlsstream import makeContext
from tests.unit.upstream.handshake_cases import ScriptCase, survives
from tests.unit.upstream.tls_cases import CA, TlsServer

PROXY = "https://proxy.example:443"
DESTINATION = Endpoint("192.0.2.1", 443)
OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
ASK = (
    b'HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm="r", nonce="n"\r\n'
    b"Connection: close\r\n\r\n"
)


class WholeTests(ScriptCase):
    """
    Conversations, each flight in one piece.
    """

    def make(self, host: str = "proxy.example", **context: object) -> TlsHandshake:
        """A handshake that trusts the tests' CA."""
        settings = {"ca": CA, "insecure": False, **context}
        login = HttpLogin(b"u", b"p", lambda: b"c")
        inner = HttpHandshake(DESTINATION, PROXY, login)
        return TlsHandshake(inner, PROXY, makeContext(**settings), host)  # type: ignore[arg-type]

    def shake(self, handshake: TlsHandshake, server: TlsServer) -> None:
        """Run TLS until the request has arrived."""
        sent = handshake.begin()
        for _ in range(5):
            answer = server.receive(sent)
            if b"\r\n\r\n" in server.heard:
                # A TLS 1.3 server sends tickets after its handshake.
                self.assertEqual(self.feed(handshake, answer) if answer else b"", b"")
                return
            sent = self.feed(handshake, answer)
        self.fail("TLS did not get through")

    def test_interface(self) -> None:
        """
        The handshake provides L{IHandshake}.
        """
        handshake = self.make()
        handshake.begin()
        verifyObject(IHandshake, handshake)

    def test_open(self) -> None:
        """
        The inner handshake succeeds with TLS 1.3 and 1.2, and bytes after its end are
        left over in plain text.
        """
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            handshake, server = self.make(), TlsServer(version)
            self.shake(handshake, server)
            self.assertIn(b"CONNECT 192.0.2.1:443", server.heard)
            self.assertEqual(server.name, "proxy.example")
            self.assertFalse(handshake.done)
            handshake.receive(server.say(OPEN + b"220 hello"))
            self.assertTrue(handshake.done)
            self.assertEqual(handshake.leftover, b"220 hello")

    def test_address(self) -> None:
        """
        The address in a proxy's URL is checked against the certificate, and no SNI is
        sent.
        """
        handshake, server = self.make("127.0.0.1"), TlsServer()
        self.shake(handshake, server)
        self.assertIs(server.name, None)

    def test_untrusted(self) -> None:
        """
        A certificate of an unknown CA or for another name is refused before anything is
        sent, unless any certificate will do.
        """
        for host, ca in (("proxy.example", ""), ("other.example", CA), ("192.0.2.1", CA)):
            handshake, server = self.make(host, ca=ca), TlsServer()
            flight = server.receive(handshake.begin())
            text = self.fails(HandshakeError, handshake, flight)
            self.assertIn("not trusted", text)
            self.assertEqual(server.heard, b"")
        handshake, server = self.make("other.example", ca="", insecure=True), TlsServer()
        self.shake(handshake, server)

    def test_noTls(self) -> None:
        """
        A proxy without TLS is recognised.
        """
        for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\5\xff\0\0\0\0\0\0"):
            handshake = self.make()
            handshake.begin()
            text = self.fails(HandshakeError, handshake, answer)
            self.assertIn("does not speak TLS", text)

    def test_refused(self) -> None:
        """
        The error is the inner handshake's.
        """
        handshake, server = self.make(), TlsServer()
        self.shake(handshake, server)
        answer = server.say(b"HTTP/1.1 403 No\r\n\r\n")
        self.fails(UpstreamForbids, handshake, answer)

    def test_again(self) -> None:
        """
        The inner handshake may need a second connection with TLS of its own; that the
        first one ends is no error then.
        """
        handshake, server = self.make(), TlsServer()
        self.shake(handshake, server)
        handshake.receive(server.say(ASK) + server.end())
        self.assertTrue(handshake.again)
        server = TlsServer()
        self.shake(handshake, server)
        self.assertIn(b"Proxy-Authorization: Digest", server.heard)
        handshake.receive(server.say(OPEN))
        self.assertTrue(handshake.done)

    def test_brokenBehindTheAnswer(self) -> None:
        """
        A broken record right after the answer is an error, unless a second connection
        is needed anyway.
        """
        wrong = b"\x17\3\3\0\x20" + bytes(32)
        handshake, server = self.make(), TlsServer()
        self.shake(handshake, server)
        self.assertRaises(HandshakeError, handshake.receive, server.say(OPEN) + wrong)
        handshake, server = self.make(), TlsServer()
        self.shake(handshake, server)
        handshake.receive(server.say(ASK) + wrong)
        self.assertTrue(handshake.again)

    def test_ended(self) -> None:
        """
        A proxy that ends TLS before its answer is an error.
        """
        handshake, server = self.make(), TlsServer()
        self.shake(handshake, server)
        self.assertIn("closed", self.fails(ProxyError, handshake, server.end()))


class ByteTests(WholeTests):
    """
    The same conversations, one byte at a time.
    """

    wholly = False


class MutationTests(SynchronousTestCase):
    """
    Flights that no server should send.
    """

    def test_mutated(self) -> None:
        """
        1,000 mutated flights raise nothing but L{UpstreamError}.  OpenSSL has tests of
        its own, and handshakes are slow.
        """
        context = makeContext("", True)

        def make() -> TlsHandshake:
            return TlsHandshake(HttpHandshake(DESTINATION, PROXY), PROXY, context, "h")

        flight = TlsServer().receive(make().begin())
        survives(6, [flight, OPEN], make, 1000)
