"""
What the tests of handshakes share: scripted and mutated conversations.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import UpstreamError
from nanotun.interfaces import IHandshake


class ScriptCase(SynchronousTestCase):
    """
    Scripted conversations, each answer in one piece or a byte at a time.

    @cvar wholly: whether answers are in one piece.
    """

    wholly = True

    def feed(self, handshake: IHandshake, data: bytes) -> bytes:
        """Deliver C{data}, until the handshake wants no more of it; returns what it sends."""
        if self.wholly:
            return handshake.receive(data)
        sent = b""
        for i in range(len(data)):
            sent += handshake.receive(data[i : i + 1])
            if handshake.again:
                break
            if handshake.done:
                if rest := data[i + 1 :]:
                    handshake.leftover += rest
                break
        return sent

    def play(self, handshake: IHandshake, request: bytes, *script: tuple[bytes, bytes]) -> None:
        """
        Run a conversation.

        @param request: what the handshake has to send first.
        @param script: what the proxy sends, and what the handshake has to send then.
        """
        self.assertEqual(handshake.begin(), request)
        for received, sent in script:
            self.assertFalse(handshake.done or handshake.again)
            self.assertEqual(self.feed(handshake, received), sent)

    def fails(self, kind: type[UpstreamError], handshake: IHandshake, data: bytes) -> str:
        """Deliver C{data}, which has to raise C{kind}; returns the text of the error."""
        error = self.assertRaises(UpstreamError, self.feed, handshake, data)
        self.assertEqual(type(error), kind, error)
        self.assertFalse(handshake.done)
        self.assertFalse(handshake.again)
        return str(error)


def mutated(chance: random.Random, data: bytes) -> bytes:
    """C{data} cut, changed, repeated, or with bytes inserted."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        where = chance.randrange(len(found) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            del found[where:]
        elif kind == 1 and where < len(found):
            found[where] ^= 1 << chance.randrange(8)
        elif kind == 2:
            found[where:where] = chance.randbytes(chance.randint(1, 8))
        elif kind == 3:
            found[where:where] = found[where : where + chance.randint(1, 40)] * 3
        elif chance.randrange(20) == 0:
            found[where:where] = found[where : where + 1] * chance.choice((300, 5000, 70000))
    return bytes(found)


def survives(
    seed: int, replies: list[bytes], make: Callable[[], IHandshake], count: int = 10_000
) -> None:
    """
    Feed mutated conversations, in pieces of any size.  Each has to raise
    L{UpstreamError}, wait for more, or be done.

    @raise Exception: whatever else came out.
    """
    chance = random.Random(seed)
    for _ in range(count):
        handshake = make()
        handshake.begin()
        data = mutated(chance, chance.choice(replies))
        begun = 1
        try:
            while data and not handshake.done:
                size = chance.choice((1, 7, 100, 4096, len(data)))
                handshake.receive(data[:size])
                data = data[size:]
                if handshake.again or (handshake.resumable and chance.randrange(4) == 0):
                    begun += 1
                    assert begun < 10, "it dials for ever"
                    handshake.begin()
        except UpstreamError:
            pass
