"""
What the engine was told to do on one leg, and how far it got.
"""

from __future__ import annotations

from typing import NamedTuple

from nanotun.flow import Endpoint
from nanotun.interfaces import DialEnd, IHandshake, Step
from nanotun.upstream.dial.resolver import SocketAddress
from nanotun.upstream.pool.warm import WarmConnection


class Begun(NamedTuple):
    """
    A dial of the engine.

    @ivar destination: where the leg is to lead.
    @ivar addresses: those of its course, in this order.
    @ivar steps: of its course.
    @ivar warm: the connection that it is on, lent; L{None} for a new one.
    """

    destination: Endpoint
    addresses: list[SocketAddress]
    steps: tuple[Step, ...] = ()
    warm: WarmConnection | None = None

    def replay(self, handshake: IHandshake, end: DialEnd) -> bytes:
        """
        Bring a handshake to where the engine was when the last bytes came.

        @param handshake: one that has not begun.
        @return: the bytes that the handshake has not received yet, perhaps none.
        @raise nanotun.errors.UpstreamError: see L{IHandshake.receive}.
        """
        if self.warm is None:
            handshake.begin()
        else:
            handshake.proceed(self.warm.greeting)
        # One answer at a time, because the engine had sent nothing more when each came.  What
        # the handshake says to them, the engine has said.
        rest = end.received
        for step in self.steps[: min(end.step, len(self.steps) - 1)]:
            size = len(step.value)
            if size:
                handshake.receive(rest[:size])
                rest = rest[size:]
        return rest
