"""
CONNECT by HTTP, as scripts of what is sent and received.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import (
    AuthenticationError,
    HandshakeError,
    ProxyError,
    UpstreamError,
    UpstreamForbids,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import IHandshake
from nanotun.upstream.handshakes.http import BODY_LIMIT, HttpHandshake
from nanotun.upstream.handshakes.httplogin import HttpLogin
from tests.unit.upstream.handshake_cases import ScriptCase, survives

PROXY = "http://Aladdin:***@proxy.example:8080"
IPV4 = Endpoint("192.0.2.1", 443)
NAME = Endpoint("server.example.com", 80)

# RFC 9110, section 9.3.6.
CONNECT = b"CONNECT server.example.com:80 HTTP/1.1\r\nHost: server.example.com:80\r\n\r\n"
# RFC 7617, section 2.
BASIC = b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
CONNECT_BASIC = CONNECT[:-2] + b"Proxy-Authorization: " + BASIC + b"\r\n\r\n"
CONNECT_DIGEST = CONNECT[:-2] + (
    b'Proxy-Authorization: Digest username="Aladdin", realm="r", nonce="%s", '
    b'uri="server.example.com:80", algorithm=SHA-256, qop=auth, nc=%s, cnonce="cnonce", '
    b'response="%s"\r\n\r\n'
)
# What squid, tinyproxy and others send.
OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
OPENS = (
    OPEN,
    b"HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    b"HTTP/1.1 200 OK\nVia: 1.1 x\n\n",
    # No body follows, whatever the fields say.
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 299 Fine\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
)
ASK_BASIC = b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="r"\r\n'
ASK_DIGEST = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
    b'Proxy-Authenticate: Basic realm="r"\r\n'
    b'Proxy-Authenticate: Digest realm="r", nonce="%s", qop="auth", algorithm=SHA-256%s\r\n'
)
LENGTH = b"Content-Length: 4\r\n\r\nBye\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n4\r\nBye\n\r\n0\r\nTrailer: 1\r\n\r\n"
CLOSE = b"Connection: close\r\n\r\n"


def login(eager: bool = False) -> HttpLogin:
    """The log-in of RFC 7617's user."""
    return HttpLogin(b"Aladdin", b"open sesame", lambda: b"cnonce", eager)


def digest(nonce: bytes, count: bytes, response: bytes) -> bytes:
    """A request with Digest."""
    return CONNECT_DIGEST % (nonce, count, response)


# SHA-256 of H(Aladdin:r:open sesame):nonce:nc:cnonce:auth:H(CONNECT:server.example.com:80),
# by sha256sum(1).
ONE_1 = digest(
    b"one", b"00000001", b"8500383a1590564fd9fe3efd4fd5faf8c9837b9015141e8e2df391ef248d0c4e"
)
ONE_2 = digest(
    b"one", b"00000002", b"3be4572d16666f5404ec077bdb151d81468b7add0d31a88e4b3631674e0aba60"
)
TWO_1 = digest(
    b"two", b"00000001", b"9c63ecb02b8a5d99f8e62150a4fb10cb8ca3bf7a8a79e8f7b9ae5ed9f1a01646"
)


class WholeTests(ScriptCase):
    """
    The conversations, each answer in one piece.
    """

    def make(self, login: HttpLogin | None = None) -> HttpHandshake:
        """A handshake for L{NAME}."""
        return HttpHandshake(NAME, PROXY, login)

    def test_interface(self) -> None:
        """
        The handshake provides L{IHandshake}.
        """
        verifyObject(IHandshake, self.make())

    def test_open(self) -> None:
        """
        Any 2xx opens the connection, and the bytes after its head are left over.
        """
        for answer in OPENS:
            handshake = self.make()
            self.play(handshake, CONNECT, (answer + b"220 hello", b""))
            self.assertTrue(handshake.done, answer)
            self.assertEqual(handshake.leftover, b"220 hello", answer)

    def test_targets(self) -> None:
        """
        An IPv6 address is sent in brackets.
        """
        for host, target in (("::1", b"[::1]:443"), ("192.0.2.1", b"192.0.2.1:443")):
            request = HttpHandshake(Endpoint(host, 443), PROXY).begin()
            self.assertEqual(request, b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target))

    def test_interim(self) -> None:
        """
        1xx answers are skipped, up to a limit.
        """
        handshake = self.make()
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        self.play(handshake, CONNECT, (interim + OPEN, b""))
        self.assertTrue(handshake.done)
        handshake = self.make()
        self.play(handshake, CONNECT)
        self.fails(HandshakeError, handshake, interim * 6)

    def test_refused(self) -> None:
        """
        Any other status is an error that names the destination and the status.
        """
        handshake = self.make()
        self.play(handshake, CONNECT)
        answer = b"HTTP/1.1 503 No\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n"
        text = self.fails(UpstreamRefused, handshake, answer)
        self.assertEqual(
            text,
            f"The proxy {PROXY} was refused by server.example.com:80 "
            "(status 503 'No', ERR_CONNECT_FAIL).",
        )

    def test_sendsBack(self) -> None:
        """
        A reason that has the password in it is not shown.
        """
        for secret in (b"open sesame", b"QWxhZGRpbjpvcGVuIHNlc2FtZQ=="):
            handshake = self.make(login())
            handshake.begin()
            answer = b"HTTP/1.1 403 You sent " + secret + b"\r\n\r\n"
            text = self.fails(UpstreamForbids, handshake, answer)
            self.assertTrue(text.endswith("(status 403)."), text)

    def test_nonsense(self) -> None:
        """
        An answer that is not HTTP is recognised.
        """
        for answer in (
            b"\5\xff",
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTQ",
            b"\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 2OO OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX Y: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ):
            handshake = self.make()
            self.play(handshake, CONNECT)
            self.assertIn("not speak HTTP", self.fails(HandshakeError, handshake, answer))

    def test_tls(self) -> None:
        """
        A proxy that speaks TLS is recognised.
        """
        handshake = self.make()
        self.play(handshake, CONNECT)
        # RFC 8446, section 6: a fatal alert.
        text = self.fails(HandshakeError, handshake, bytes.fromhex("15 0301 0002 0246"))
        self.assertIn("https://", text)

    def test_tooLarge(self) -> None:
        """
        A head that is too long, or has too many fields, is an error.
        """
        for answer in (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000, b"HTTP/1.1 200 OK" + b"x" * 70000):
            handshake = self.make()
            self.play(handshake, CONNECT)
            self.fails(HandshakeError, handshake, answer)
        handshake = self.make()
        self.play(handshake, CONNECT)
        answer = b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 101 + b"\r\n"
        self.assertIn("100 header fields", self.fails(HandshakeError, handshake, answer))

    def test_afterTheEnd(self) -> None:
        """
        Bytes after the end are an error.
        """
        handshake = self.make()
        self.play(handshake, CONNECT, (OPEN, b""))
        self.assertRaises(HandshakeError, handshake.receive, b"x")

    def test_noCredentials(self) -> None:
        """
        A URL without a user name is an error if the proxy wants a log-in.
        """
        handshake = self.make()
        self.play(handshake, CONNECT)
        text = self.fails(AuthenticationError, handshake, ASK_BASIC + LENGTH)
        self.assertIn("put them in its URL", text)

    def test_unknownLogin(self) -> None:
        """
        A proxy that offers only unknown log-ins is told apart from a wrong password.
        """
        for fields, offer in (
            (b"Proxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n", "ntlm, negotiate"),
            (b"", "no scheme"),
        ):
            handshake = self.make(login())
            self.play(handshake, CONNECT)
            answer = b"HTTP/1.1 407 No\r\n" + fields + LENGTH
            self.assertIn(offer, self.fails(AuthenticationError, handshake, answer))

    def test_basicAtOnce(self) -> None:
        """
        An eager log-in sends Basic with the first request.
        """
        handshake = self.make(login(eager=True))
        self.play(handshake, CONNECT_BASIC, (OPEN, b""))
        self.assertTrue(handshake.done)

    def test_basicWhenAsked(self) -> None:
        """
        Basic is sent on the same connection once the proxy asks for it, and at once
        from then on.
        """
        for body in (LENGTH, CHUNKED):
            shared = login()
            handshake = self.make(shared)
            self.play(handshake, CONNECT, (ASK_BASIC + body, CONNECT_BASIC), (OPEN, b""))
            self.assertTrue(handshake.done)
            self.play(self.make(shared), CONNECT_BASIC, (OPEN, b""))

    def test_wrongPassword(self) -> None:
        """
        A password that is asked for again is wrong, and is not in the error.
        """
        for eager in (True, False):
            handshake = self.make(login(eager))
            if eager:
                self.play(handshake, CONNECT_BASIC)
            else:
                self.play(handshake, CONNECT, (ASK_BASIC + LENGTH, CONNECT_BASIC))
            text = self.fails(AuthenticationError, handshake, ASK_BASIC + LENGTH)
            self.assertNotIn("sesame", text)
            self.assertIn("correct them", text)

    def test_unauthorized(self) -> None:
        """
        A 401 in answer to credentials means that they are wrong; without credentials it
        is a web server's.
        """
        answer = b"HTTP/1.0 401 Unauthorized\r\nConnection: close\r\n\r\n"
        handshake = self.make(login(eager=True))
        self.play(handshake, CONNECT_BASIC)
        self.assertIn("(status 401)", self.fails(AuthenticationError, handshake, answer))
        handshake = self.make(login())
        self.play(handshake, CONNECT)
        self.assertIn("web server", self.fails(ProxyError, handshake, answer))

    def test_again(self) -> None:
        """
        If the connection ends with the 407, the handshake continues on a new one.
        """
        for answer in (
            ASK_BASIC + CLOSE,
            ASK_BASIC.replace(b"/1.1", b"/1.0") + LENGTH,
            # No length: the body ends with the connection.
            ASK_BASIC + b"\r\n",
        ):
            handshake = self.make(login())
            self.play(handshake, CONNECT, (answer, b""))
            self.assertTrue(handshake.again, answer)
            self.play(handshake, CONNECT_BASIC, (OPEN, b""))
            self.assertTrue(handshake.done)

    def test_longBody(self) -> None:
        """
        A body that takes longer than a new connection is not read.
        """
        handshake = self.make(login())
        body = b"Content-Length: 100000000\r\n\r\n" + b"x" * (BODY_LIMIT + 1)
        self.play(handshake, CONNECT, (ASK_BASIC + body, b""))
        self.assertTrue(handshake.again)

    def test_resumable(self) -> None:
        """
        A connection that is lost during a 407 may be replaced; at any other time it may
        not.
        """
        handshake = self.make(login())
        self.play(handshake, CONNECT)
        self.assertFalse(handshake.resumable)
        self.feed(handshake, ASK_BASIC + LENGTH[:-1])
        self.assertTrue(handshake.resumable)
        self.feed(handshake, LENGTH[-1:])
        self.assertTrue(handshake.resumable)
        self.play(handshake, CONNECT_BASIC)
        self.assertFalse(handshake.resumable)
        self.feed(handshake, OPEN[:-1])
        self.assertFalse(handshake.resumable)
        self.feed(handshake, OPEN[-1:])
        self.assertTrue(handshake.done)

    def test_digest(self) -> None:
        """
        Digest is preferred to Basic, and the next connection uses its nonce with the
        next count.
        """
        shared = login()
        handshake = self.make(shared)
        self.play(handshake, CONNECT, (ASK_DIGEST % (b"one", b"") + LENGTH, ONE_1), (OPEN, b""))
        self.play(self.make(shared), ONE_2, (OPEN, b""))

    def test_stale(self) -> None:
        """
        A nonce that is too old is replaced, whether this handshake or an earlier one
        got it.
        """
        shared = login()
        handshake = self.make(shared)
        stale = ASK_DIGEST % (b"two", b", stale=true") + LENGTH
        asked = (ASK_DIGEST % (b"one", b"") + LENGTH, ONE_1)
        self.play(handshake, CONNECT, asked, (stale, TWO_1), (OPEN, b""))
        self.assertTrue(handshake.done)
        # The same nonce again, which nobody calls stale.
        shared = login()
        self.play(self.make(shared), CONNECT, asked, (OPEN, b""))
        handshake = self.make(shared)
        self.play(handshake, ONE_2, (ASK_DIGEST % (b"two", b"") + LENGTH, TWO_1), (OPEN, b""))
        self.assertTrue(handshake.done)

    def test_staleForEver(self) -> None:
        """
        The handshake gives up on a proxy that calls every nonce stale.
        """
        handshake = self.make(login())
        self.play(handshake, CONNECT)
        stale = ASK_DIGEST % (b"one", b", stale=true") + LENGTH
        for _ in range(3):
            self.assertEqual(self.feed(handshake, stale), ONE_1)
        self.fails(AuthenticationError, handshake, stale)

    def test_digestWrong(self) -> None:
        """
        A refused answer to a fresh challenge is a wrong password, and the next
        connection starts over.
        """
        shared = login()
        handshake = self.make(shared)
        self.play(handshake, CONNECT, (ASK_DIGEST % (b"one", b"") + LENGTH, ONE_1))
        self.fails(AuthenticationError, handshake, ASK_DIGEST % (b"two", b"") + LENGTH)
        self.play(self.make(shared), CONNECT, (OPEN, b""))


class ByteTests(WholeTests):
    """
    The same conversations, one byte at a time.
    """

    wholly = False


class DestinationTests(SynchronousTestCase):
    """
    Destinations that cannot be asked for.
    """

    def test_badName(self) -> None:
        """
        A name that cannot be sent is an error, and cannot add to the request.
        """
        for name in ("x" * 256, "münchen.example", "", "a b", "a\r\nX: y", "a/b", "a@b", "a:b:x"):
            self.assertRaises(UpstreamError, HttpHandshake, Endpoint(name, 80), PROXY)


class MutationTests(SynchronousTestCase):
    """
    Answers that no server should send.
    """

    def test_mutated(self) -> None:
        """
        10,000 mutated answers raise nothing but L{UpstreamError}.
        """
        asked = [ASK_BASIC + LENGTH, ASK_DIGEST % (b"one", b"") + CHUNKED]
        answers = [
            *OPENS,
            *asked,
            ASK_BASIC + CLOSE,
            *(each + OPEN for each in asked),
            asked[1] + ASK_DIGEST % (b"two", b", stale=true, userhash=true") + LENGTH + OPEN,
            b"HTTP/1.1 100 Continue\r\n\r\n" + OPEN + b"220 hello",
            b"HTTP/1.1 503 No\r\nProxy-Status: x; error=dns_error\r\nX-Squid-Error: ERR 1\r\n\r\n",
        ]
        shared = login()
        survives(5, answers, lambda: HttpHandshake(NAME, PROXY, shared))
