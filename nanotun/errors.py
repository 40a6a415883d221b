"""
Everything nanotun raises on purpose.

The text of a L{NanotunError} is shown to the user as it is: one sentence that
says what failed, on what, and what to do.  Facts that code wants to look at
are attributes.
"""

from __future__ import annotations


class NanotunError(Exception):
    """The root: its text is one sentence for the user."""


class UnexpectedEvent(RuntimeError):
    """
    A state machine got an event that its table has no entry for: a bug, not a sentence
    for the user.
    """

    def __init__(self, machine: str, state: object, event: object) -> None:
        super().__init__(f"{machine} got the unexpected event {event!s} in the state {state!s}")


class ConfigError(NanotunError):
    """The configuration is wrong; the text names file, line and key."""


class DeviceError(NanotunError):
    """The TUN device cannot be made or configured."""


class EngineError(NanotunError):
    """The native stack is missing, of another version, or refused a call."""


class RoutingError(NanotunError):
    """A route, rule, firewall table or setting of the machine cannot be changed."""


class RunningError(NanotunError):
    """
    Another nanotun runs already, or none does where one has to.
    """


class NotRunning(RunningError):
    """No nanotun runs where one was asked."""


class FlowDecidedError(NanotunError):
    """A flow request got a second decision: a mistake of ours."""


class FlowLimitError(NanotunError):
    """
    As many flows are joined as may be.

    @ivar limit: how many that is.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} connections are open, as many as nanotun carries; new ones wait until "
            "some end."
        )
        self.limit = limit


class UpstreamError(NanotunError):
    """
    A flow cannot go out.  Each subclass is one thing that the app should see;
    L{nanotun.router.router} has the table.
    """


class UpstreamRefused(UpstreamError):
    """The destination refused: the app sees a reset."""


class UpstreamHostUnreachable(UpstreamError):
    """No way to the destination's host."""


class UpstreamNetUnreachable(UpstreamError):
    """No way to the destination's network."""


class FamilyUnsupported(UpstreamNetUnreachable):
    """This way out carries no such addresses; nobody was asked, and another may."""


class NameUnknown(UpstreamHostUnreachable):
    """A name has no address, by a lookup of our own; it says nothing of any proxy."""


class UpstreamProhibited(UpstreamError):
    """The proxy's rules forbid the destination."""


class UpstreamTimeout(UpstreamError):
    """The deadline for connect, handshake and reply passed."""


class DatagramsUnsupported(UpstreamError):
    """This way out carries no UDP: the app sees a port unreachable, at once."""


class ProxyError(UpstreamError):
    """The proxy itself is at fault: not reached, wrong protocol, wrong password."""


class ProxyClosedError(ProxyError):
    """The proxy ended the connection before its answer was whole."""


class HandshakeError(ProxyError):
    """The proxy's bytes are not what the protocol allows."""


class AuthenticationError(ProxyError):
    """The proxy wants other credentials than it got."""
