"""
One upstream of a group, and its health.
"""

from __future__ import annotations

from nanotun.interfaces import IUpstream
from nanotun.upstream.group.breaker import Breaker, BreakerState

#: The weight of a new sample in the average of an upstream's handshake times.
SAMPLE_WEIGHT = 0.2


class Member:
    """
    One upstream.

    @ivar name: its URL without the password.
    @ivar latency: seconds that a handshake takes on average, from the connect to the
        reply; L{None} before the first.
    @ivar datagrams: whether it carries UDP; L{None} if that is not known.
    @ivar heardAt: when it last answered a flow, or L{None}.
    """

    __slots__ = ("breaker", "datagrams", "heardAt", "latency", "name", "upstream")

    def __init__(self, upstream: IUpstream, breaker: Breaker) -> None:
        self.upstream = upstream
        self.name: str = upstream.describe()
        self.breaker = breaker
        self.latency: float | None = None
        self.datagrams: bool | None = None
        self.heardAt: float | None = None

    @property
    def healthy(self) -> bool:
        """Whether new flows should use it."""
        return self.breaker.state is BreakerState.CLOSED

    @property
    def retryAt(self) -> float:
        """When it is to be checked again, if it is not healthy."""
        return self.breaker.retryAt

    def measure(self, seconds: float) -> None:
        """A handshake took so long."""
        if self.latency is None:
            self.latency = seconds
        else:
            self.latency += SAMPLE_WEIGHT * (seconds - self.latency)
