"""
The packet engine, the requests that come out of it and who decides them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from nanotun.flow import Datagram, Endpoint, FlowEnd, Protocol, Refusal, Stats
    from nanotun.interfaces.device import ITunDevice
    from nanotun.interfaces.upstream import DatagramLeg


class IFlowRequest(Interface):
    """
    A connection that an app asked for and that waits for its one decision.
    Exactly one of L{join}, L{refuse} and L{drop} is called, once; a second
    call raises L{nanotun.errors.FlowDecidedError}.
    """

    flow = Attribute("The L{nanotun.flow.Flow}.")

    def join(fd: int, leftover: bytes = b"") -> bool:
        """
        Complete the handshake with the app and carry both ways natively.

        @param fd: a connected stream socket.  The engine owns it from here on,
            also when the app has given up meanwhile.
        @param leftover: bytes that go to the app first.
        @return: whether the app was still there.
        @raise nanotun.errors.FlowLimitError: too many flows are joined.  The app
            hears nothing, as with L{drop}.
        @raise OSError: it cannot be joined; the flow is ended.
        """

    def refuse(reason: Refusal) -> None:
        """Tell the app that it cannot have this flow."""

    def drop() -> None:
        """Say nothing; the app may ask again."""


class IDatagramFlowRequest(Interface):
    """
    Datagrams of one source to one destination, which wait for their one decision:
    an L{attach} that returned true, L{serve}, L{refuse} or L{drop}.  A call after
    that raises L{nanotun.errors.FlowDecidedError}.

    There is no end to hear of: the engine forgets such a flow after a while
    without datagrams, and the next one is a new request.
    """

    flow = Attribute("The L{nanotun.flow.Flow}; its protocol is UDP.")

    def attach(association: int, real: Endpoint | None = None) -> bool:
        """
        Send them, and those to come, by an association.

        @param association: from L{IPacketEngine.openAssociation}.
        @param real: where they really go; replies appear as the flow's destination's.
        @return: false when the association cannot take this flow, because it has
            ended or because it is shared and has a query with the same id to the
            same server under way.  The request still waits then.
        """

    def serve() -> None:
        """Hand them, and those to come, to the datagram services."""

    def refuse(reason: Refusal) -> None:
        """Tell the app, now and for each datagram of the next two seconds."""

    def drop() -> None:
        """Say nothing; datagrams of the next two seconds go the same way."""


class IFlowHandler(Interface):
    """Who decides: the router.  Called by the engine only."""

    followsFlows = Attribute(
        "Whether L{flowClosed} is called at all (L{bool}).  Read anew whenever flows "
        "have ended; to tell of an end nobody looks at costs more than to end it."
    )

    def flowRequested(request: IFlowRequest) -> None:
        """An app wants a connection.  Decide now or later, but once."""

    def datagramFlowRequested(request: IDatagramFlowRequest) -> None:
        """An app sends from this port to somebody new.  Decide now or later, but once."""

    def flowAbandoned(flowID: int) -> None:
        """The app gave up before the decision: stop working on it.  The id is void."""

    def flowClosed(end: FlowEnd) -> None:
        """A joined flow ended, for good.  Called only while L{followsFlows} is true."""


class IPacketEngine(Interface):
    """
    The packet engine: packets in, flows out.

    The service calls L{start}, then L{nanotun.tun.port.TunPort} calls L{pump}
    whenever the device is readable, then the service calls L{stop}.
    """

    stackMode = Attribute("The value of the C{stackMode} setting that chooses this engine.")

    def start(device: ITunDevice, handler: IFlowHandler) -> None:
        """
        Load the library, make the stack and begin to watch for events.  Never
        called before twistd has forked.

        @raise nanotun.errors.EngineError: nothing was started.
        """

    def pump(budget: int) -> int:
        """
        Hand packets from the device to the stack.

        @param budget: the most packets to take.
        @return: packets taken; less than C{budget} when the device is empty.
        @raise OSError: the device is gone (EBADFD) or down (EIO).
        """

    def lend(returned: Callable[[], None]) -> bool:
        """
        Have a thread of the engine read the device, until it has been silent
        for some milliseconds or fails.  For busy times: no packet wakes the
        reactor then.  Whoever calls this stops watching the fd, and watches it
        again when C{returned} is called, on the reactor's thread.

        @return: whether the device is lent; if not, C{returned} is not called.
        """

    def openAssociation(
        leg: DatagramLeg, ended: Callable[[int], None], shared: bool = False
    ) -> int:
        """
        Take over a leg for datagrams: of one source, to whatever destinations, with
        anybody's replies (endpoint-independent mapping and filtering, RFC 4787).

        @param leg: the engine owns its fd from here on, also when this raises; its
            control stays the caller's.
        @param ended: called once with an errno when the engine ends it: ETIMEDOUT
            for idle, ENOBUFS to make room, else the socket's error.  Not called
            after L{closeAssociation}, nor by L{stop}.
        @param shared: for DNS queries of any number of sources.
        @return: its number, for L{IDatagramFlowRequest.attach}.
        @raise OSError: it cannot be watched.
        """

    def closeAssociation(association: int) -> None:
        """The leg is no good any more.  Harmless when it has ended already."""

    def listen(protocol: Protocol, port: int) -> None:
        """
        Something of ours listens on this port of the gateway: its TCP connections
        become requests, its datagrams go to the receiver.  After L{start}.
        """

    def receiveDatagrams(receiver: Callable[[list[Datagram]], None]) -> None:
        """Set who gets the datagrams for our services, in batches."""

    def sendDatagrams(datagrams: list[Datagram]) -> None:
        """Send to apps; C{source} is what the app sees as the sender."""

    def stats() -> Stats:
        """Counters, by the names of C{struct ns_stats}."""

    def stop() -> Deferred[None]:
        """
        Take no new flows, let those with bytes under way finish for at most a
        second, reset the rest, free everything.  Fires when all is freed.
        """


class IPacketEngineFactory(Interface):
    """A plugin: one per engine, found by L{twisted.plugin.getPlugins}."""

    stackMode = Attribute("The value of the C{stackMode} setting (L{str}).")

    def createEngine(reactor: Any, udpTimeout: float) -> IPacketEngine:
        """
        Make an engine that is not started.  Loads nothing native.

        @param udpTimeout: seconds after which an idle association ends.
        """


class IGateway(Interface):
    """The services on the gateway's addresses, as the service and the router know them."""

    def start() -> None:
        """
        Serve.  The engine has been started.

        @raise nanotun.errors.EngineError, OSError: as the engine says.
        """

    def stop() -> None:
        """Give up every query and connection.  The engine still runs."""

    def acceptStream(request: IFlowRequest) -> None:
        """An app connects to a port that L{IPacketEngine.listen} was told of."""

    def isLocal(host: str) -> bool:
        """Whether a literal address is one of this machine's: nobody else is answered."""
