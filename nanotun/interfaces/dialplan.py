"""
Dial plans: how the engine opens a leg by itself.

An upstream whose handshake has one good way, with everything that it sends known beforehand,
describes that way as a L{Course}, once.  For each flow it gives a L{DialPlan}, and the engine
connects, speaks and joins without Python.  The engine knows nothing but the good way: whatever
else happens comes back as a L{DialEnd}, with every byte that was received, and the upstream goes
on from there with its own handshake class, which is the specification of both.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from zope.interface import Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from nanotun.flow import Endpoint
    from nanotun.interfaces.upstream import Connection


class Tail(enum.IntEnum):
    """What follows the fixed bytes of an answer (netstack.h, NS_TAIL_...)."""

    NONE = 0
    #: The rest of SOCKS5's address, whose type is the last of the fixed bytes (RFC 1928,
    #: section 5).
    SOCKS_ADDRESS = 1
    #: The head of an HTTP/1 answer of 2xx, up to the empty line (RFC 9112).
    HTTP_HEAD = 2


class Step(NamedTuple):
    """
    One message of a handshake, and its answer.

    @ivar send: perhaps nothing.
    @ivar own: whether the flow's own bytes follow: L{DialPlan.request}.
    @ivar mask: the bits of the answer's first bytes that count; as long as C{value}.
    @ivar value: what these bits have to be; empty if no answer is waited for.
    @ivar tail: what comes after these bytes.
    """

    send: bytes = b""
    own: bool = False
    mask: bytes = b""
    value: bytes = b""
    tail: Tail = Tail.NONE

    def __repr__(self) -> str:
        # What is sent may hold a password.
        return f"<Step of {len(self.send)} bytes>"


class Course(NamedTuple):
    """
    What all dials of one upstream share.

    @ivar addresses: those to try, in this order, each a C{struct sockaddr} as connect(2) takes
        it.
    @ivar timeout: seconds for connect and handshake together.  Each address has its share of
        what is left, as in L{nanotun.upstream.dial.connector}.
    @ivar mark: of the sockets; 0 for none.
    @ivar stallTime: seconds that data may wait for the other side to take it; 0 for as long as
        the kernel likes.
    @ivar patience: seconds after which L{IDialOutcomes.silent} is asked; 0 for never.
    @ivar steps: of the handshake; none if a connected socket is enough.
    @ivar tls: the number of the configuration of TLS, which comes before the steps
        (L{nanotun.interfaces.ITls}); 0 for none.  What has become of it is then the first that is
        received.
    """

    addresses: tuple[bytes, ...]
    timeout: float
    mark: int = 0
    stallTime: float = 0.0
    patience: float = 0.0
    steps: tuple[Step, ...] = ()
    tls: int = 0

    def __repr__(self) -> str:
        return f"<Course of {len(self.steps)} steps to {len(self.addresses)} addresses>"


class DialPlan(NamedTuple):
    """
    How to open one leg.

    @ivar request: the flow's own bytes, which ask for its destination.
    @ivar outcomes: told what becomes of the dial.
    @ivar fd: a connected stream socket that waited for its destination, owned by whoever has
        this value; -1 to connect.
    @ivar first: the number of the step that begins on C{fd}.
    @ivar standing: whether the plan is good for every flow to its destination until
        L{nanotun.interfaces.UpstreamContext.changed} is called.
    """

    course: Course
    request: bytes
    outcomes: IDialOutcomes
    fd: int = -1
    first: int = 0
    standing: bool = False

    def __repr__(self) -> str:
        return f"<DialPlan {self.course!r}>"


class DialEndKind(enum.IntEnum):
    """How a dial of the engine ended without a join (netstack.h, NS_DIAL_...)."""

    #: The other side said something else than what is on the course; or, after
    #: L{IDialOutcomes.silent}, just that.  The connection goes with it.
    HANDED = 1
    #: No address could be connected to.
    FAILED = 2
    #: The connection ended during the handshake.
    LOST = 3
    #: The time is over.
    EXPIRED = 4
    #: No socket could be made.
    NO_SOCKET = 5
    #: The engine cannot do it this time; dial without it.
    GENERAL = 6


class DialEnd(NamedTuple):
    """
    What the engine says of a dial that it could not bring to its end.

    @ivar error: an errno; of LOST 0 if the other side closed in order.
    @ivar step: the number of the step whose answer was waited for; -1 while connecting.
    @ivar address: the number of the address that was tried last.
    @ivar fd: of HANDED: the connection, owned by whoever has this value; else -1.
    @ivar received: everything that was received.
    @ivar seconds: since the dial began.
    """

    kind: DialEndKind
    error: int = 0
    step: int = -1
    address: int = 0
    fd: int = -1
    received: bytes = b""
    seconds: float = 0.0

    def __repr__(self) -> str:
        return f"<DialEnd {self.kind.name} {self.error} at step {self.step}>"


class IDialOutcomes(Interface):
    """Told what becomes of the dials of a plan.  Called by the router only."""

    def opened(count: int, seconds: float, address: int) -> None:
        """
        Dials have succeeded, and their flows are joined.

        @param count: how many; more than one for a standing decision.
        @param seconds: that one of them took, on average.
        @param address: the number of the address that the last one connected to.
        """

    def resume(end: DialEnd) -> Deferred[Connection]:
        """
        Go on where the engine stopped.  L{abandoned} is not called for this dial any more.

        @return: as from L{nanotun.interfaces.IUpstream.connect}.
        """

    def silent(engine: Deferred[DialEnd], seconds: float) -> Deferred[Connection]:
        """
        The course's patience is over, and the engine's dial goes on.  Neither L{resume} nor
        L{abandoned} is called for this dial any more.

        @param engine: fires with the dial's end; cancelling it cancels the engine's dial.  It
            is no leg yet, because whoever is asked meanwhile has to know which dial it was.
        @param seconds: since the dial began.
        @return: the leg to take, as from L{nanotun.interfaces.IUpstream.connect}.
        """

    def abandoned(seconds: float) -> None:
        """The app has given up, or the flow made way, so long after the dial began."""


class IPlanned(Interface):
    """
    An upstream whose dials the engine may carry out.  It is an interface of its own, because
    upstreams of other packages may know nothing of it.
    """

    def plan(destination: Endpoint) -> DialPlan | None:
        """
        How to open a leg to C{destination}.  Never raises.

        @return: L{None} if only L{nanotun.interfaces.IUpstream.connect} can do it.
        """
