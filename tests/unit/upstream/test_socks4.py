"""
SOCKS4 and SOCKS4A, as scripts of what is sent and received.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import (
    AuthenticationError,
    FamilyUnsupported,
    HandshakeError,
    ProxyError,
    UpstreamError,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import IHandshake
from nanotun.upstream.handshakes.socks4 import Socks4Handshake
from tests.unit.upstream.handshake_cases import ScriptCase, survives

PROXY = "socks4://proxy.example:1080"
IPV4 = Endpoint("192.0.2.1", 443)
NAME = Endpoint("example.com", 65535)

# The SOCKS4 memo: VN CD DSTPORT DSTIP USERID NULL; VN CD DSTPORT DSTIP.
CONNECT = bytes.fromhex("04 01 01bb c0000201 00")
CONNECT_USER = bytes.fromhex("04 01 01bb c0000201 616e6e 00")
# The SOCKS4A memo: DSTIP 0.0.0.x, and after the user's zero the name with its own.
CONNECT_NAME = bytes.fromhex("04 01 ffff 00000001 616e6e 00 6578616d706c652e636f6d 00")
GRANTED = bytes.fromhex("00 5a 0000 00000000")


class WholeTests(ScriptCase):
    """
    The conversations, each answer in one piece.
    """

    def test_interface(self) -> None:
        """
        The handshake provides L{IHandshake}.
        """
        verifyObject(IHandshake, Socks4Handshake(IPV4, PROXY))

    def test_ipv4(self) -> None:
        """
        An IPv4 destination, without and with a user id.
        """
        for user, request in ((b"", CONNECT), (b"ann", CONNECT_USER)):
            handshake = Socks4Handshake(IPV4, PROXY, user)
            self.play(handshake, request, (GRANTED, b""))
            self.assertTrue(handshake.done)
            self.assertEqual(handshake.leftover, b"")

    def test_name(self) -> None:
        """
        A name is sent to the proxy as SOCKS4A says.
        """
        handshake = Socks4Handshake(NAME, PROXY, b"ann")
        self.play(handshake, CONNECT_NAME, (GRANTED, b""))
        self.assertTrue(handshake.done)

    def test_repeatedVersion(self) -> None:
        """
        A server that repeats the request's version is understood, whatever address it
        gives.
        """
        handshake = Socks4Handshake(IPV4, PROXY)
        self.play(handshake, CONNECT, (bytes.fromhex("04 5a 1234 c0000202"), b""))
        self.assertTrue(handshake.done)

    def test_leftover(self) -> None:
        """
        Bytes from a server that speaks first are left over.
        """
        handshake = Socks4Handshake(IPV4, PROXY)
        self.play(handshake, CONNECT, (GRANTED + b"220 hello", b""))
        self.assertTrue(handshake.done)
        self.assertEqual(handshake.leftover, b"220 hello")

    def test_replies(self) -> None:
        """
        Every reply of the memo is an error of its own kind, even when cut short.
        """
        kinds = {
            91: UpstreamRefused,
            92: AuthenticationError,
            93: AuthenticationError,
            0: ProxyError,
            94: ProxyError,
            255: ProxyError,
        }
        for reply, kind in kinds.items():
            for data in (bytes([0, reply]) + GRANTED[2:], bytes([0, reply])):
                handshake = Socks4Handshake(IPV4, PROXY)
                self.play(handshake, CONNECT)
                text = self.fails(kind, handshake, data)
                self.assertIn(f"(reply {reply})", text)
                self.assertIn("192.0.2.1:443", text)
                self.assertIn(PROXY, text)

    def test_wrongVersion(self) -> None:
        """
        A SOCKS5 or HTTP server is recognised.
        """
        for data in (b"\5\xff", b"HTTP/1.1 400 Bad Request\r\n"):
            handshake = Socks4Handshake(IPV4, PROXY)
            self.play(handshake, CONNECT)
            self.assertIn("does not speak SOCKS4", self.fails(HandshakeError, handshake, data))

    def test_afterTheEnd(self) -> None:
        """
        Bytes after the end are an error.
        """
        handshake = Socks4Handshake(IPV4, PROXY)
        self.play(handshake, CONNECT, (GRANTED, b""))
        self.assertRaises(HandshakeError, handshake.receive, b"x")


class ByteTests(WholeTests):
    """
    The same conversations, one byte at a time.
    """

    wholly = False


class DestinationTests(SynchronousTestCase):
    """
    Destinations that cannot be asked for.
    """

    def test_ipv6(self) -> None:
        """
        An IPv6 destination fails so that the app tries IPv4 at once.
        """
        error = self.assertRaises(
            FamilyUnsupported, Socks4Handshake, Endpoint("2001:db8::1", 80), PROXY
        )
        self.assertIn("[2001:db8::1]:80", str(error))

    def test_looksLikeName(self) -> None:
        """
        An address that SOCKS4A would take for the mark of a name cannot be sent either.
        """
        for host in ("0.0.0.0", "0.0.0.9"):
            self.assertRaises(FamilyUnsupported, Socks4Handshake, Endpoint(host, 80), PROXY)

    def test_badName(self) -> None:
        """
        A name that cannot be sent is an error: it is not cut off, and cannot add to the
        request.
        """
        for name in ("x" * 256, "münchen.example", "", "a\0b"):
            self.assertRaises(UpstreamError, Socks4Handshake, Endpoint(name, 80), PROXY)


class MutationTests(SynchronousTestCase):
    """
    Replies that no server should send.
    """

    def test_mutated(self) -> None:
        """
        10,000 mutated replies raise nothing but L{UpstreamError}.
        """
        replies = [GRANTED, GRANTED + b"hello", b"\0\x5b" + GRANTED[2:]]
        survives(4, replies, lambda: Socks4Handshake(NAME, PROXY, b"ann"))
