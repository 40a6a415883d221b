"""
SOCKS5, as scripts of what is sent and received.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import (
    AuthenticationError,
    DatagramsUnsupported,
    HandshakeError,
    ProxyError,
    UpstreamError,
    UpstreamForbids,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import IAssociateHandshake
from nanotun.upstream.handshakes.socks5 import CONNECT, UDP_ASSOCIATE, Socks5Handshake

PROXY = "socks5://user:***@proxy.example:1080"
IPV4 = Endpoint("192.0.2.1", 443)
IPV6 = Endpoint("2001:db8::1", 80)
NAME = Endpoint("example.com", 65535)

# RFC 1928, section 3: VER NMETHODS METHODS; VER METHOD.
GREETING = bytes.fromhex("05 01 00")
GREETING_PASSWORD = bytes.fromhex("05 02 00 02")
METHOD_NONE = bytes.fromhex("05 00")
METHOD_PASSWORD = bytes.fromhex("05 02")
METHOD_NO = bytes.fromhex("05 ff")
# RFC 1929, section 2: VER ULEN UNAME PLEN PASSWD; VER STATUS.
CREDENTIALS = bytes.fromhex("01 04 75736572 03 707764")
WELCOME = bytes.fromhex("01 00")
# RFC 1928, section 4: VER CMD RSV ATYP DST.ADDR DST.PORT.
CONNECT_IPV4 = bytes.fromhex("05 01 00 01 c0000201 01bb")
CONNECT_IPV6 = bytes.fromhex("05 01 00 04 20010db8000000000000000000000001 0050")
CONNECT_NAME = bytes.fromhex("05 01 00 03 0b 6578616d706c652e636f6d ffff")
# RFC 1928, section 6: VER REP RSV ATYP BND.ADDR BND.PORT.
REPLY_IPV4 = bytes.fromhex("05 00 00 01 00000000 0000")
REPLY_IPV6 = bytes.fromhex("05 00 00 04 20010db80000000000000000000000ff 1234")
# The same for UDP ASSOCIATE, for no app yet: command 3, 0.0.0.0:0 or [::]:0.
ASSOCIATE = bytes.fromhex("05 03 00 01 00000000 0000")
ASSOCIATE_IPV6 = bytes.fromhex("05 03 00 04 00000000000000000000000000000000 0000")
RELAY_IPV4 = bytes.fromhex("05 00 00 01 c6336407 1f90")
REPLY_NAME = bytes.fromhex("05 00 00 03 03 666f6f 1234")


class WholeTests(SynchronousTestCase):
    """
    The conversations, each answer in one piece.
    """

    def feed(self, handshake: Socks5Handshake, data: bytes) -> bytes:
        """Deliver C{data}; returns what the handshake sends."""
        return handshake.receive(data)

    def play(
        self,
        destination: Endpoint,
        credentials: tuple[bytes, bytes] | None,
        greeting: bytes,
        *script: tuple[bytes, bytes],
        command: int = CONNECT,
    ) -> Socks5Handshake:
        """
        Run a conversation.

        @param script: what the proxy sends, and what the handshake has to send then.
        """
        handshake = Socks5Handshake(destination, PROXY, credentials, command)
        self.assertEqual(handshake.begin(), greeting)
        for received, sent in script:
            self.assertFalse(handshake.done)
            self.assertEqual(self.feed(handshake, received), sent)
        return handshake

    def fails(
        self,
        kind: type[UpstreamError],
        data: bytes,
        *before: tuple[bytes, bytes],
        credentials: tuple[bytes, bytes] | None = None,
    ) -> str:
        """The text of the error that C{data} raises after C{before}."""
        greeting = GREETING if credentials is None else GREETING_PASSWORD
        handshake = self.play(IPV4, credentials, greeting, *before)
        error = self.assertRaises(UpstreamError, self.feed, handshake, data)
        self.assertEqual(type(error), kind)
        self.assertIn(PROXY, str(error))
        self.assertFalse(handshake.done)
        return str(error)

    def test_interface(self) -> None:
        """
        The handshake provides L{IAssociateHandshake}.
        """
        verifyObject(IAssociateHandshake, Socks5Handshake(IPV4, PROXY))

    def test_ipv4(self) -> None:
        """
        An IPv4 destination is asked for without a log-in.
        """
        handshake = self.play(IPV4, None, GREETING, (METHOD_NONE, CONNECT_IPV4), (REPLY_IPV4, b""))
        self.assertTrue(handshake.done)
        self.assertEqual(handshake.leftover, b"")

    def test_ipv6(self) -> None:
        """
        An IPv6 destination is asked for, and a reply may have an IPv6 address.
        """
        handshake = self.play(IPV6, None, GREETING, (METHOD_NONE, CONNECT_IPV6), (REPLY_IPV6, b""))
        self.assertTrue(handshake.done)

    def test_name(self) -> None:
        """
        A name is sent to the proxy as it is, and may be in the reply (ATYP 3).
        """
        handshake = self.play(NAME, None, GREETING, (METHOD_NONE, CONNECT_NAME), (REPLY_NAME, b""))
        self.assertTrue(handshake.done)

    def test_password(self) -> None:
        """
        The log-in is by user name and password.
        """
        handshake = self.play(
            IPV4,
            (b"user", b"pwd"),
            GREETING_PASSWORD,
            (METHOD_PASSWORD, CREDENTIALS),
            (WELCOME, CONNECT_IPV4),
            (REPLY_IPV4, b""),
        )
        self.assertTrue(handshake.done)

    def test_passwordNotWanted(self) -> None:
        """
        A proxy may do without the log-in that it was offered.
        """
        handshake = self.play(
            IPV4,
            (b"user", b"pwd"),
            GREETING_PASSWORD,
            (METHOD_NONE, CONNECT_IPV4),
            (REPLY_IPV4, b""),
        )
        self.assertTrue(handshake.done)

    def test_leftover(self) -> None:
        """
        Bytes from a server that speaks first are left over, whatever the length of the
        reply before them.
        """
        for reply in (REPLY_IPV4, REPLY_IPV6, REPLY_NAME):
            handshake = self.play(IPV4, None, GREETING, (METHOD_NONE, CONNECT_IPV4))
            handshake.receive(reply[:4])
            self.assertEqual(handshake.receive(reply[4:] + b"220 hello"), b"")
            self.assertTrue(handshake.done)
            self.assertEqual(handshake.leftover, b"220 hello")

    def test_replies(self) -> None:
        """
        Every reply of the RFC is an error of its own kind.
        """
        kinds = {
            1: UpstreamRefused,
            2: UpstreamForbids,
            3: UpstreamNetUnreachable,
            4: UpstreamHostUnreachable,
            5: UpstreamRefused,
            6: UpstreamHostUnreachable,
            7: ProxyError,
            8: ProxyError,
            9: ProxyError,
            255: ProxyError,
        }
        for reply, kind in kinds.items():
            text = self.fails(kind, bytes([5, reply]) + REPLY_IPV4[2:], (METHOD_NONE, CONNECT_IPV4))
            self.assertIn(f"(reply {reply})", text)
            self.assertIn("192.0.2.1:443", text)

    def test_news(self) -> None:
        """
        The replies that mean what the app sees anyway are no news.
        """
        news = []
        for reply in range(1, 10):
            handshake = Socks5Handshake(IPV4, PROXY)
            handshake.begin()
            handshake.receive(b"\5\0")
            error = self.assertRaises(UpstreamError, handshake.receive, bytes([5, reply]))
            news += [reply] if error.news else []
        self.assertEqual(news, [1, 2, 6])

    def test_shortRefusal(self) -> None:
        """
        A refusal is understood even without an address.
        """
        self.fails(UpstreamRefused, b"\5\5", (METHOD_NONE, CONNECT_IPV4))

    def test_wrongVersion(self) -> None:
        """
        A SOCKS4 or HTTP server is recognised.
        """
        self.assertIn("does not speak SOCKS5", self.fails(HandshakeError, b"\0\x5b"))
        self.assertIn("does not speak SOCKS5", self.fails(HandshakeError, b"HTTP/1.1 400"))
        self.fails(HandshakeError, b"\4\0", (METHOD_NONE, CONNECT_IPV4))

    def test_methodNotOffered(self) -> None:
        """
        A method that was not offered is an error.
        """
        self.fails(HandshakeError, b"\5\1")
        self.fails(HandshakeError, METHOD_PASSWORD)

    def test_noMethod(self) -> None:
        """
        A proxy that wants a log-in is told apart from one that wants another log-in.
        """
        self.assertIn("put them in its URL", self.fails(AuthenticationError, METHOD_NO))
        text = self.fails(AuthenticationError, METHOD_NO, credentials=(b"user", b"pwd"))
        self.assertIn("neither", text)

    def test_wrongPassword(self) -> None:
        """
        The error for a wrong password does not contain it.
        """
        text = self.fails(
            AuthenticationError,
            b"\1\1",
            (METHOD_PASSWORD, CREDENTIALS),
            credentials=(b"user", b"pwd"),
        )
        self.assertFalse("pwd" in text)

    def test_unknownAddressType(self) -> None:
        """
        An address of an unknown type is an error, because its length is not known.
        """
        self.fails(HandshakeError, b"\5\0\0\2\0", (METHOD_NONE, CONNECT_IPV4))

    def test_longestReply(self) -> None:
        """
        A name of 255 bytes fits.
        """
        reply = b"\5\0\0\3\xff" + b"x" * 255 + b"\0\0"
        handshake = self.play(IPV4, None, GREETING, (METHOD_NONE, CONNECT_IPV4), (reply, b""))
        self.assertTrue(handshake.done)
        self.assertEqual(handshake.leftover, b"")

    def test_bytesTooEarly(self) -> None:
        """
        Bytes before the request are an error, and are not lost.
        """
        self.fails(HandshakeError, METHOD_NONE + b"junk")

    def test_badName(self) -> None:
        """
        A name that SOCKS5 cannot carry is not cut off.
        """
        for name in ("x" * 256, "münchen.example", ""):
            self.assertRaises(UpstreamError, Socks5Handshake, Endpoint(name, 80), PROXY)

    def test_afterTheEnd(self) -> None:
        """
        Bytes after the end are an error.
        """
        handshake = self.play(IPV4, None, GREETING, (METHOD_NONE, CONNECT_IPV4), (REPLY_IPV4, b""))
        self.assertRaises(HandshakeError, handshake.receive, b"x")

    def test_associate(self) -> None:
        """
        UDP ASSOCIATE names no address of an app, and the address in the reply is passed
        on as it is; whether it can be right is decided elsewhere.
        """
        for destination, request, reply, bound in (
            (Endpoint("0.0.0.0", 0), ASSOCIATE, RELAY_IPV4, Endpoint("198.51.100.7", 8080)),
            (Endpoint("::", 0), ASSOCIATE_IPV6, REPLY_IPV6, Endpoint("2001:db8::ff", 4660)),
            (Endpoint("0.0.0.0", 0), ASSOCIATE, REPLY_NAME, Endpoint("foo", 4660)),
            (Endpoint("0.0.0.0", 0), ASSOCIATE, REPLY_IPV4, Endpoint("0.0.0.0", 0)),
        ):
            handshake = self.play(
                destination,
                None,
                GREETING,
                (METHOD_NONE, request),
                (reply, b""),
                command=UDP_ASSOCIATE,
            )
            self.assertTrue(handshake.done)
            self.assertEqual(handshake.bound, bound)

    def test_connectBinds(self) -> None:
        """
        The address that a connection is bound to is not kept.
        """
        handshake = self.play(IPV4, None, GREETING, (METHOD_NONE, CONNECT_IPV4), (REPLY_IPV6, b""))
        self.assertIsNone(handshake.bound)

    def test_associateRefused(self) -> None:
        """
        A proxy that carries no UDP is told apart from one in trouble.
        """
        nobody = Endpoint("0.0.0.0", 0)
        for reply, kind in {
            1: ProxyError,
            2: DatagramsUnsupported,
            4: ProxyError,
            7: DatagramsUnsupported,
            8: ProxyError,
            99: ProxyError,
        }.items():
            handshake = self.play(
                nobody, None, GREETING, (METHOD_NONE, ASSOCIATE), command=UDP_ASSOCIATE
            )
            error = self.assertRaises(UpstreamError, self.feed, handshake, bytes([5, reply]))
            self.assertEqual(type(error), kind)
            self.assertIn("UDP", str(error))
            self.assertIn(f"(reply {reply})", str(error))


class ByteTests(WholeTests):
    """
    The same conversations, one byte at a time.
    """

    def feed(self, handshake: Socks5Handshake, data: bytes) -> bytes:
        """Deliver C{data} one byte at a time."""
        return b"".join(handshake.receive(data[i : i + 1]) for i in range(len(data)))
