"""
Tests of L{nanotun.upstream.handshakes.tls}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.engine import abi
from nanotun.errors import HandshakeError, ProxyClosedError, ProxyError, UpstreamForbids
from nanotun.flow import Endpoint
from nanotun.interfaces import IHandshake
from nanotun.upstream.handshakes import tls
from nanotun.upstream.handshakes.http import HttpHandshake, goodWay
from nanotun.upstream.handshakes.httplogin import HttpLogin
from nanotun.upstream.handshakes.tls import READY, TlsGreeting, TlsHandshake, goodWayInTls
from tests.unit.upstream.handshake_cases import ScriptCase, survives

PROXY = "https://proxy.example:443"
DESTINATION = Endpoint("192.0.2.1", 443)
CONNECT = b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n"
OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
ASK = (
    b'HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm="r", nonce="n"\r\n'
    b"Connection: close\r\n\r\n"
)


def flaw(kind: int, reason: bytes) -> bytes:
    """What the library says of TLS that has failed."""
    return bytes((kind, len(reason))) + reason


class WholeTests(ScriptCase):
    """
    Conversations, each answer in one piece.
    """

    def make(self) -> TlsHandshake:
        """A handshake with credentials."""
        login = HttpLogin(b"u", b"p", lambda: b"c")
        return TlsHandshake(HttpHandshake(DESTINATION, PROXY, login), PROXY)

    def test_interface(self) -> None:
        """
        Both provide L{IHandshake}.
        """
        verifyObject(IHandshake, self.make())
        verifyObject(IHandshake, TlsGreeting(PROXY))

    def test_open(self) -> None:
        """
        The inner handshake begins once TLS is ready, and bytes after its end are left over.
        """
        handshake = self.make()
        self.play(handshake, b"", (READY, CONNECT))
        self.assertFalse(handshake.done)
        handshake.receive(OPEN + b"220 hello")
        self.assertEqual((handshake.done, handshake.leftover), (True, b"220 hello"))

    def test_flaws(self) -> None:
        """
        TLS that has failed is an error with the library's reason.
        """
        for kind, reason, error, text in (
            (tls.UNTRUSTED, b"self-signed", HandshakeError, "not trusted (self-signed); if"),
            (tls.NO_TLS, b"wrong version", HandshakeError, "speak TLS with us (wrong version);"),
            (tls.ENDED, b"", ProxyClosedError, "closed the connection before"),
            (tls.ENDED, b"ECONNRESET", ProxyClosedError, "broke the connection before"),
        ):
            for handshake in (self.make(), TlsGreeting(PROXY)):
                handshake.begin()
                self.assertIn(text, self.fails(error, handshake, flaw(kind, reason)))
                self.assertFalse(handshake.resumable)

    def test_refused(self) -> None:
        """
        The error is the inner handshake's.
        """
        handshake = self.make()
        self.play(handshake, b"", (READY, CONNECT))
        self.fails(UpstreamForbids, handshake, b"HTTP/1.1 403 No\r\n\r\n")

    def test_again(self) -> None:
        """
        The inner handshake may need a second connection, with TLS of its own; until that is
        ready it needs no third one.
        """
        handshake = self.make()
        self.play(handshake, b"", (READY, CONNECT))
        self.feed(handshake, ASK)
        self.assertTrue(handshake.again)
        self.assertEqual(handshake.begin(), b"")
        self.assertFalse(handshake.again or handshake.resumable or handshake.requested)
        self.assertIn(b"Proxy-Authorization: Digest", self.feed(handshake, READY))
        self.feed(handshake, OPEN)
        self.assertTrue(handshake.done)

    def test_greets(self) -> None:
        """
        A greeting is done once TLS is ready, and then the proxy has nothing to say.
        """
        greeting = TlsGreeting(PROXY)
        self.play(greeting, b"", (READY, b""))
        self.assertTrue(greeting.done)
        self.assertRaises(ProxyError, greeting.receive, b"220 hello")

    def test_greeted(self) -> None:
        """
        On a connection whose TLS is ready the request is sent at once, and again on another one
        if that ends.
        """
        greeting, handshake = TlsGreeting(PROXY), self.make()
        self.play(greeting, b"", (READY, b""))
        self.assertEqual(handshake.proceed(greeting), CONNECT)
        self.assertTrue(handshake.resumable and handshake.requested)
        handshake.begin()
        self.assertFalse(handshake.resumable or handshake.requested)


class ByteTests(WholeTests):
    """
    The same conversations, one byte at a time.
    """

    wholly = False


class FormTests(SynchronousTestCase):
    """
    What the library says, and what it is to wait for.
    """

    def test_numbers(self) -> None:
        """
        The flaws have the library's numbers.
        """
        self.assertEqual(
            (tls.UNTRUSTED, tls.NO_TLS, tls.ENDED),
            (abi.NS_FLAW_UNTRUSTED, abi.NS_FLAW_NO_TLS, abi.NS_FLAW_ENDED),
        )

    def test_goodWay(self) -> None:
        """
        The good way waits for TLS, unless there is none, or the connection has it already.
        """
        plain = goodWay()
        assert plain is not None
        way = goodWayInTls(plain)
        assert way is not None
        self.assertEqual(way.steps[0].value, READY)
        self.assertEqual((way.steps[1:], way.greeted), (plain.steps, plain.greeted))
        self.assertIsNone(goodWayInTls(None))

    def test_mutated(self) -> None:
        """
        10,000 mutated conversations raise nothing but L{UpstreamError}.
        """
        answers = [READY + OPEN, flaw(tls.UNTRUSTED, b"reason"), READY + ASK]
        survives(6, answers, lambda: TlsHandshake(HttpHandshake(DESTINATION, PROXY), PROXY), 10000)
