"""
Everything nanotun raises on purpose.

The text of a L{NanotunError} is shown to the user as it is: one sentence that
says what failed, on what, and what to do.  Facts that code needs are attributes.
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


class EntryError(ConfigError):
    """
    A part of a setting's value is wrong, or does not go with the other settings.

    @ivar path: the keys and positions, from 0, that lead to the part; empty for the whole
        value.
    @ivar key: the setting, where the check is one of several settings together.
    """

    def __init__(self, sentence: str, *path: str | int, key: str = "") -> None:
        super().__init__(sentence)
        self.path = path
        self.key = key


class WrongOption(ConfigError):
    """An option of the command line, or its value, is wrong."""


class DeviceError(NanotunError):
    """The TUN device cannot be made or configured."""


class EngineError(NanotunError):
    """The native stack is missing, of another version, or refused a call."""


class RoutingError(NanotunError):
    """A route, rule, firewall table or setting of the machine cannot be changed."""


class RunningError(NanotunError):
    """
    Another nanotun runs already, or none runs where one is needed.
    """


class NotRunning(RunningError):
    """There is no running nanotun to answer a command."""


class FlowDecidedError(NanotunError):
    """A flow request got a second decision: an internal error."""


class FlowLimitError(NanotunError):
    """
    The limit of joined flows is reached.

    @ivar limit: how many flows may be joined.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} connections are open, as many as nanotun carries; new ones wait until "
            "some end."
        )
        self.limit = limit


class UpstreamError(NanotunError):
    """
    A flow cannot leave.  L{nanotun.router.dialling.REFUSALS} has what the app sees of each
    subclass.

    @ivar news: whether the sentence tells the user more than the app sees.
    @ivar status: the status of the HTTP proxy's answer; 0 if there is none.
    """

    def __init__(self, sentence: str = "", news: bool = False, status: int = 0) -> None:
        super().__init__(sentence)
        self.news = news
        self.status = status


class UpstreamRefused(UpstreamError):
    """The destination refused: the app sees a reset."""


class UpstreamHostUnreachable(UpstreamError):
    """The destination's host cannot be reached."""


class UpstreamNetUnreachable(UpstreamError):
    """The destination's network cannot be reached."""


class FamilyUnsupported(UpstreamNetUnreachable):
    """
    The upstream carries no addresses of this family; nothing was sent, and another upstream
    may carry them.
    """


class NameUnknown(UpstreamHostUnreachable):
    """A name that nanotun looked up itself has no address; no proxy is at fault."""


class UpstreamProhibited(UpstreamError):
    """The rules of this machine or of the proxy forbid the destination."""


class UpstreamForbids(UpstreamProhibited):
    """The proxy's rules forbid the destination."""


class UpstreamTimeout(UpstreamError):
    """The deadline for connect, handshake and reply passed."""


class DestinationSilent(UpstreamTimeout):
    """
    The destination was asked for, and nothing came; or the proxy says that nothing came.
    """


class DatagramsUnsupported(UpstreamError):
    """The upstream carries no UDP: the app is told at once that the port is unreachable."""


class NamesUnsupported(UpstreamError):
    """The proxy's UDP relay takes no names; the flow can still go by address."""


class ProxyError(UpstreamError):
    """The proxy itself is at fault: not reached, wrong protocol, wrong password."""


class ProxyClosedError(ProxyError):
    """The proxy ended the connection before its answer was complete."""


class HandshakeError(ProxyError):
    """The proxy sent bytes that the protocol does not allow."""


class AuthenticationError(ProxyError):
    """The proxy does not accept the credentials, or wants some."""
