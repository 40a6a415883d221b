"""
Tests for L{nanotun.gateway.dns.talks}.
"""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.gateway.dns.framedtalk import PIPELINE_LIMIT, FramedTalk
from nanotun.gateway.dns.interfaces import ITalk
from nanotun.gateway.dns.talks import Heard
from tests.unit.gateway.gateway_cases import answer, ask


def framed(*messages: bytes) -> bytes:
    """Messages as they go over the wire."""
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


class FramedTalkTests(SynchronousTestCase):
    """Tests for L{FramedTalk}."""

    def setUp(self) -> None:
        """A talk whose ids count from 0, each offered twice."""
        idents = itertools.count()
        self.talk = FramedTalk(lambda: (next(idents) // 2 % 65536).to_bytes(2, "big"))
        self.talk.begin()

    def test_interface(self) -> None:
        """It is a talk, which needs no greeting and says nothing first."""
        verifyObject(ITalk, self.talk)
        self.assertTrue(self.talk.greeted)
        self.assertEqual((self.talk.lacking, self.talk.outgoing()), ("", b""))

    def test_sent(self) -> None:
        """Queries go out once, in order, with a length and an id that no other has."""
        wires = [ask(f"a{number}") for number in range(3)]
        keys = [self.talk.send(wire) for wire in wires]
        self.assertEqual(keys, [b"\0\0", b"\0\1", b"\0\2"])
        expected = [key + wire[2:] for key, wire in zip(keys, wires, strict=True)]
        self.assertEqual(self.talk.outgoing(), framed(*expected))
        self.assertEqual(self.talk.outgoing(), b"")

    def test_received(self) -> None:
        """Messages of any size are heard by their ids, in pieces of any size."""
        keys = [self.talk.send(ask()) for _ in range(3)]
        messages = [answer(key + ask()[2:]) for key in reversed(keys)]
        messages[1] += bytes(65535 - len(messages[1]))
        stream = framed(*messages, b"", b"x")
        expected = [Heard(message[:2], message) for message in (*messages, b"", b"x")]
        self.assertEqual(self.talk.receive(stream), expected)
        found = [heard for byte in stream for heard in self.talk.receive(bytes((byte,)))]
        self.assertEqual(found, expected)
        self.assertEqual(self.talk.ended(), "")

    def test_cut(self) -> None:
        """The end in the middle of a message, or of its length, is an error of the server's."""
        for piece in (b"\0", b"\0\5", framed(b"12345")[:-1]):
            talk = FramedTalk(bytes)
            talk.receive(framed(b"whole") + piece)
            self.assertEqual(talk.ended(), "closed the connection in the middle of an answer")

    def test_room(self) -> None:
        """There is room for a number of queries; a forgotten one makes room, and frees its id."""
        keys = [self.talk.send(ask()) for _ in range(PIPELINE_LIMIT)]
        self.assertEqual(self.talk.room, 0)
        self.talk.forget(keys[0])
        self.talk.forget(keys[0])
        self.assertEqual(self.talk.room, 1)
