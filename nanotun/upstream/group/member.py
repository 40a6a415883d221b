"""
One upstream of a group, and its health.
"""

from __future__ import annotations

from nanotun.interfaces import IUpstream
from nanotun.upstream.group.breaker import Breaker, BreakerState

#: Seconds.  A proxy that has not answered a check for so long is called down, before the
#: check's own deadline: whoever asks for its health does not wait longer.
SILENCE = 2.0

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
    @ivar fault: why it is at fault, by the last flow or check; empty if it is not.
    @ivar lasting: whether this is a fault that no check would see, such as the log-in's at an
        HTTP proxy, so that only a flow can tell that it is over.
    @ivar known: whether it has ever answered.
    @ivar checkingSince: when the check under way began, or L{None}.
    """

    __slots__ = (
        "breaker",
        "checkingSince",
        "datagrams",
        "fault",
        "heardAt",
        "known",
        "lasting",
        "latency",
        "name",
        "upstream",
    )

    def __init__(self, upstream: IUpstream, breaker: Breaker) -> None:
        self.upstream = upstream
        self.name: str = upstream.describe()
        self.breaker = breaker
        self.latency: float | None = None
        self.datagrams: bool | None = None
        self.heardAt: float | None = None
        self.fault = ""
        self.lasting = False
        self.known = False
        self.checkingSince: float | None = None

    @property
    def healthy(self) -> bool:
        """Whether new flows should use it."""
        return self.breaker.state is BreakerState.CLOSED

    @property
    def retryAt(self) -> float:
        """When it is to be checked again, if it is not healthy."""
        return self.breaker.retryAt

    def answered(self, check: bool = False) -> None:
        """It answered a flow, or a check."""
        self.known = True
        if not (check and self.lasting):
            self.fault, self.lasting = "", False

    def trouble(self, now: float) -> str:
        """
        Why it is down, as a sentence; empty if it is not.  The breaker is another matter: it
        says whether flows use it.
        """
        since = self.checkingSince
        if not self.fault and since is not None and now - since >= SILENCE:
            return (
                f"The proxy {self.name} has not answered for {SILENCE:g} s; check that it runs "
                "there and that no firewall is in between."
            )
        return self.fault

    def health(self, now: float) -> str:
        """C{up}: it answered last; C{down}: it did not; C{unknown}: it was never asked."""
        if self.trouble(now):
            return "down"
        return "up" if self.known else "unknown"

    def measure(self, seconds: float) -> None:
        """A handshake took so long."""
        if self.latency is None:
            self.latency = seconds
        else:
            self.latency += SAMPLE_WEIGHT * (seconds - self.latency)
