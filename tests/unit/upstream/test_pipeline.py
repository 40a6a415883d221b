"""
SOCKS5 with everything sent at once, and SOCKS5 against mutated replies.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import AuthenticationError, HandshakeError, UpstreamRefused
from nanotun.upstream.handshakes.socks5 import UDP_ASSOCIATE, Socks5Handshake
from tests.unit.upstream.handshake_cases import ScriptCase, survives
from tests.unit.upstream.test_socks5 import (
    CONNECT_IPV4,
    CREDENTIALS,
    GREETING,
    IPV4,
    METHOD_NO,
    METHOD_NONE,
    METHOD_PASSWORD,
    NAME,
    PROXY,
    REPLY_IPV4,
    REPLY_NAME,
    WELCOME,
)

USER = (b"user", b"pwd")
# RFC 1928, section 3: only one method is offered then.
GREETING_PASSWORD_ONLY = bytes.fromhex("05 01 02")
FLIGHT = GREETING + CONNECT_IPV4
FLIGHT_PASSWORD = GREETING_PASSWORD_ONLY + CREDENTIALS + CONNECT_IPV4


class WholeTests(ScriptCase):
    """
    The conversations, each answer in one piece.
    """

    def make(self, credentials: tuple[bytes, bytes] | None = None) -> Socks5Handshake:
        """A handshake for L{IPV4}."""
        return Socks5Handshake(IPV4, PROXY, credentials, pipeline=True)

    def test_together(self) -> None:
        """
        All answers may arrive in one piece, with the server's first words.
        """
        for credentials, flight, answers in (
            (None, FLIGHT, METHOD_NONE + REPLY_IPV4),
            (None, FLIGHT, METHOD_NONE + REPLY_NAME),
            (USER, FLIGHT_PASSWORD, METHOD_PASSWORD + WELCOME + REPLY_IPV4),
        ):
            handshake = self.make(credentials)
            self.play(handshake, flight, (answers + b"220 hello", b""))
            self.assertTrue(handshake.done)
            self.assertEqual(handshake.leftover, b"220 hello")

    def test_apart(self) -> None:
        """
        A server that answers step by step is understood, and hears nothing more.
        """
        handshake = self.make(USER)
        self.play(
            handshake, FLIGHT_PASSWORD, (METHOD_PASSWORD, b""), (WELCOME, b""), (REPLY_IPV4, b"")
        )
        self.assertTrue(handshake.done)

    def test_relay(self) -> None:
        """
        An association can be asked for in the same way.
        """
        handshake = Socks5Handshake(IPV4, PROXY, None, UDP_ASSOCIATE, pipeline=True)
        flight = GREETING + b"\5\3" + CONNECT_IPV4[2:]
        self.play(handshake, flight, (METHOD_NONE + REPLY_IPV4, b""))
        self.assertEqual(handshake.bound, ("0.0.0.0", 0))

    def test_refused(self) -> None:
        """
        Each refusal is understood, even if more bytes follow it.
        """
        for credentials, flight, answers, kind in (
            (None, FLIGHT, METHOD_NO, AuthenticationError),
            (None, FLIGHT, METHOD_PASSWORD, HandshakeError),
            (USER, FLIGHT_PASSWORD, METHOD_NO, AuthenticationError),
            (USER, FLIGHT_PASSWORD, METHOD_NONE + REPLY_IPV4, HandshakeError),
            (USER, FLIGHT_PASSWORD, METHOD_PASSWORD + b"\1\1" + REPLY_IPV4, AuthenticationError),
            (None, FLIGHT, METHOD_NONE + b"\5\5\0\1", UpstreamRefused),
        ):
            handshake = self.make(credentials)
            self.play(handshake, flight)
            self.fails(kind, handshake, answers)


class ByteTests(WholeTests):
    """
    The same conversations, one byte at a time.
    """

    wholly = False


class MutationTests(SynchronousTestCase):
    """
    Replies that no server should send.
    """

    def test_mutated(self) -> None:
        """
        10,000 mutated replies raise nothing but L{UpstreamError}, with and without
        pipelining.
        """
        replies = [
            METHOD_NONE + REPLY_IPV4 + b"hello",
            METHOD_PASSWORD + WELCOME + REPLY_NAME,
            METHOD_PASSWORD + b"\1\1",
            METHOD_NONE + b"\5\1\0\1",
        ]
        for pipeline in (False, True):
            for credentials in (None, USER):
                survives(
                    7,
                    replies,
                    lambda: Socks5Handshake(NAME, PROXY, credentials, pipeline=pipeline),  # noqa: B023
                    2500,
                )
