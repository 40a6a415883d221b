"""
What goes wrong with associations: told to the user, and answered with pauses.
"""

from __future__ import annotations

from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.errors import DatagramsUnsupported, NamesUnsupported, UpstreamError
from nanotun.flow import Endpoint
from nanotun.interfaces import IUpstream
from nanotun.log.trouble import TroubleLog
from nanotun.router.udp.pauses import Pauses


class AssociationKey(NamedTuple):
    """
    Whose association it is.

    @ivar source: the one source that uses it; L{None} if it is shared.
    @ivar name: sent in place of addresses; empty for an association that reaches any
        destination.
    """

    source: Endpoint | None
    upstream: IUpstream
    name: str = ""


class Faults:
    """
    The faults of all associations.

    @param clock: for the pauses.
    @param trouble: told of what the user should know.
    @param said: told of what the other side says about destinations.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, trouble: TroubleLog, said: TroubleLog) -> None:
        self._clock = clock
        self._trouble = trouble
        self._said = said
        self._pauses = Pauses()
        # What was told of upstreams that carry no UDP, by their texts: each program may have
        # one of its own.
        self._without: dict[str, str] = {}

    def pauses(self, key: AssociationKey) -> bool:
        """Whether no association may be opened now, because the last ones all failed."""
        return self._pauses.holds(key, self._clock.seconds())

    def dialled(self, upstream: IUpstream) -> None:
        """The upstream has a leg: if it carried no UDP before, it does now."""
        self._without.pop(upstream.describe(), None)

    def notDialled(self, upstream: IUpstream, reason: Failure) -> None:
        """
        A dial failed: one line per cause.  That an upstream carries no UDP is no event but
        a property of it, and is told once; if it follows from the URL, it was told at the
        start.  That its UDP relay takes no names was told by whoever found that out.
        """
        error = reason.value
        if isinstance(error, NamesUnsupported):
            return
        if isinstance(error, DatagramsUnsupported):
            what = upstream.describe()
            if upstream.carriesDatagrams and self._without.get(what) != str(error):
                self._without[what] = str(error)
                self._log.warn("{cause}", cause=str(error))
        elif isinstance(error, UpstreamError):
            self._trouble.report(str(error))
        else:
            self._log.failure("A UDP association failed: internal error", failure=reason)

    def unusable(self, error: OSError) -> None:
        """The engine did not take a leg."""
        self._trouble.report(f"A UDP association cannot be used: {error.strerror}.")

    def lost(self, key: AssociationKey, cause: str, young: bool) -> None:
        """
        A fault ended an association: one line per cause, and perhaps a pause.

        @param young: whether the association had not matured.
        """
        self._trouble.report(cause)
        if young:
            self._pauses.ended(key, self._clock.seconds())

    def refused(self, key: AssociationKey, first: str, alone: bool) -> None:
        """
        A datagram was refused; nothing has ended.

        @param first: the first destination of the association.  A proxy that forwards such
            errors may do so for this one only, as dante does.
        @param alone: whether the association has had no other flow.
        """
        what = f"UDP to {first}"
        if not alone:
            # Not how many: each number would be a line of its own.
            what = f"UDP to one of several destinations, the first of them {first},"
        self._said.report(
            f"{what} was refused behind the proxy {key[1].describe()}: the port is closed there, "
            "or the proxy's UDP relay is."
        )

    def matured(self, key: AssociationKey) -> None:
        """An association was open for long enough to be of use."""
        self._pauses.matured(key)
