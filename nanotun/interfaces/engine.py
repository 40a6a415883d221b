"""
The packet engine, its requests, and their handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from nanotun.flow import (
        AbsoluteForm,
        Crowd,
        Datagram,
        Endpoint,
        Flow,
        FlowEnd,
        ListedFlow,
        Protocol,
        Refusal,
        Stats,
    )
    from nanotun.interfaces.device import ITunDevice
    from nanotun.interfaces.dialplan import DialEnd, DialPlan
    from nanotun.interfaces.upstream import Connection, DatagramLeg


class IFlowRequest(Interface):
    """
    A connection that an app asked for and that waits for its decision: exactly one call of
    L{join}, L{refuse} or L{drop}.  A second call raises
    L{nanotun.errors.FlowDecidedError}.
    """

    flow = Attribute("The L{nanotun.flow.Flow}.")

    def sniff() -> Deferred[str]:
        """
        Find the name that the app's first bytes ask for (TLS, HTTP/1).  To be called at
        most once, before the decision.

        The app is accepted for that, before anybody knows whether it will be connected: from
        now on L{refuse} and L{drop} reset the connection.

        @return: fires with the name in lower case without a final dot, or with the empty
            text, at most a second after the app has completed the handshake.  It
            does not fire if the app gives up; it may be cancelled, and does not fail
            otherwise.
        @raise OSError: a second call.
        """

    def join(
        fd: int, leftover: bytes = b"", form: AbsoluteForm | None = None, note: int = 0
    ) -> bool:
        """
        Complete the handshake with the app, and have the native library carry both
        directions.

        @param fd: a connected stream socket.  The engine owns it from now on,
            also if the app has given up meanwhile.
        @param leftover: bytes that are sent to the app first.
        @param form: says, if there is one, that the fd leads to an HTTP proxy which has not
            been asked for a destination: the app's requests are sent to it in this form, and
            whatever else the app sends resets the flow.
        @param note: the flow's note from now on; 0 leaves it as it is.
        @return: whether the app was still there.
        @raise nanotun.errors.FlowLimitError: too many flows are joined.  The app
            is told nothing, as with L{drop}.
        @raise OSError: it cannot be joined; the flow is ended.
        """

    def dial(plan: DialPlan, note: int = 0) -> None:
        """
        Have the engine open a leg and join the flow to it: L{IFlowHandler.flowJoined} follows,
        or L{IFlowHandler.flowDialEnded}, or the app gives up.  This is no decision: the flow
        waits on, and a decision drops the dial.

        @param plan: the engine owns its C{fd} from now on.
        @param note: see L{join}.
        @raise OSError: it cannot be dialled.
        """

    def undial() -> None:
        """Drop the engine's dial, if there is one; the flow waits on."""

    def refuse(reason: Refusal) -> None:
        """Tell the app that it cannot have this flow."""

    def drop() -> None:
        """Tell the app nothing; it may ask again."""


class IDatagramFlowRequest(Interface):
    """
    Datagrams of one source to one destination, which wait for their decision: an L{attach}
    that returned true, L{serve}, L{refuse} or L{drop}.  A call after that raises
    L{nanotun.errors.FlowDecidedError}.

    The engine forgets such a flow after a while without datagrams, and the next datagram is a
    new request.  It tells the flow's end only if L{IPacketEngine.followDatagrams} asked for that.
    """

    flow = Attribute("The L{nanotun.flow.Flow}; its protocol is UDP.")

    def sniff() -> Deferred[str]:
        """
        Find the name that the first datagrams ask for (QUIC).  To be called at
        most once, before the decision.

        @return: fires with the name in lower case without a final dot, or with the empty
            text, within 100 ms.  It
            does not fire if the app gives up; it may be cancelled, and does not fail
            otherwise.
        @raise OSError: a second call.
        """

    def attach(association: int, real: Endpoint | None = None, note: int = 0) -> bool:
        """
        Send them, and those to come, through an association.

        @param association: from L{IPacketEngine.openAssociation}.
        @param real: where they really go, if that is not the flow's destination; to the app
            replies look as if from the flow's destination.
        @param note: the flow's note from now on.
        @return: false if the association cannot take this flow, because it has ended,
            belongs to another source, or to another address by its name, or because it is
            shared and cannot tell the replies from others': the datagrams are no DNS queries,
            or one is like an unanswered query.  The request still waits then.
        """

    def serve() -> None:
        """Give them, and those to come, to the datagram services."""

    def refuse(reason: Refusal) -> None:
        """Tell the app, now and for each datagram of the next two seconds."""

    def drop() -> None:
        """Tell the app nothing; datagrams of the next two seconds are dropped as well."""


class IFlowHandler(Interface):
    """Decides the engine's requests: the router.  Called by the engine only."""

    followsFlows = Attribute(
        "Whether L{flowClosed} has to be called (L{bool}).  Read anew whenever flows have "
        "ended, because to report an end costs more than the end itself."
    )

    def flowRequested(request: IFlowRequest) -> None:
        """An app wants a connection.  Decide now or later, but once."""

    def datagramFlowRequested(request: IDatagramFlowRequest) -> None:
        """An app sends to a new destination.  Decide now or later, but once."""

    def flowAbandoned(flowID: int) -> None:
        """
        The app gave up before the decision, or the flow made way for another, or
        L{IPacketEngine.endFlows} ended it: stop working on it.  The id is invalid now.
        """

    def flowLimitReached(limit: int) -> None:
        """
        The engine has dialled for a flow and cannot join it, because so many are joined already.
        The app hears nothing and asks again; L{flowAbandoned} was called for the flow.
        """

    def flowClosed(end: FlowEnd) -> None:
        """
        A joined flow ended.  Called only while L{followsFlows} is true.  Flows of standing
        decisions, and those of datagrams, are among them only if
        L{IPacketEngine.followDatagrams} asked for that.
        """

    def flowJoined(flowID: int, seconds: float, address: int) -> None:
        """
        A flow that L{IFlowRequest.dial} was called for is joined.

        @param seconds: that the dial took.
        @param address: the number of the address that it connected to.
        """

    def flowDialEnded(request: IFlowRequest, end: DialEnd, standing: int) -> None:
        """
        The engine could not open a flow's leg.  The flow waits for a decision.

        @param request: that of L{flowRequested}; a new one for a flow of a standing decision.
        @param standing: the number of that decision; 0 if there is none.
        """

    def flowSilent(request: IFlowRequest, standing: int) -> None:
        """
        The patience of a flow's course is over, and its dial goes on: L{flowDialEnded} follows in
        any case, unless the app gives up.  See L{flowDialEnded} for the parameters.
        """

    def stood(
        number: int, decided: int, joined: int, seconds: float, address: int, abandoned: float
    ) -> None:
        """
        Flows were dialled by a standing decision.

        @param decided: how many, since the last call.
        @param joined: how many were joined since the last call.
        @param seconds: that the dial of one that was joined took, on average.
        @param address: the number of the address that the last one connected to.
        @param abandoned: seconds that the longest dial had taken of those whose apps have given
            up since the last call, or whose flows made way; 0 if there was none.
        """

    def standingEnded(number: int) -> None:
        """A standing decision is withdrawn, and the last of its flows has ended."""

    def flowNotHttp(flow: Flow, reason: int) -> None:
        """
        A flow that was joined with a form was reset; L{flowClosed} follows.

        @param reason: a value of L{nanotun.flow.NotHttp}.
        """


class IPacketEngine(Interface):
    """
    The packet engine: packets in, flows out.

    The service calls L{start}, then L{nanotun.tun.port.TunPort} calls L{pump}
    whenever the device is readable, then the service calls L{stop}.
    """

    stackMode = Attribute("The value of the C{stackMode} setting that chooses this engine.")

    def start(device: ITunDevice, handler: IFlowHandler) -> None:
        """
        Load the library, make the stack and begin to watch for events.  Not to be called
        before twistd has forked.

        @raise nanotun.errors.EngineError: nothing was started.
        """

    def pump(budget: int) -> int:
        """
        Move packets from the device to the stack.

        @param budget: the most packets to take.
        @return: packets taken; fewer than C{budget} if the device is empty.
        @raise OSError: the device is gone (EBADFD) or down (EIO).
        """

    def lend(returned: Callable[[], None]) -> bool:
        """
        Have a thread of the engine read the device, until it has been silent
        for some milliseconds or fails.  For busy times: no packet wakes the
        reactor then.  The caller stops watching the fd, and watches it again when
        C{returned} is called, on the reactor's thread.

        @return: whether the device is lent; if not, C{returned} is not called.
        """

    def openAssociation(
        leg: DatagramLeg,
        ended: Callable[[int], None],
        refused: Callable[[], None],
        shared: bool = False,
        name: str = "",
    ) -> int:
        """
        Have a leg carry the datagrams of one source to any destination, and any host's
        replies (endpoint-independent mapping and filtering, RFC 4787).

        @param leg: the engine owns its fd from now on, also if this raises; its
            control stays the caller's.
        @param ended: called once with an errno when the engine ends the association:
            ETIMEDOUT if it was idle, ENOBUFS to make room, else the socket's error.  Not
            called after L{closeAssociation}, nor by L{stop}.
        @param refused: called, every two seconds at most, when datagrams were refused: some
            proxies forward that error of a destination.  The association goes on; if it has
            one destination only, the engine has told the app.
        @param shared: whether it carries DNS queries of any number of sources.
        @param name: sent in place of every destination's address, if it is not empty: ASCII,
            of at most 255 characters, for a SOCKS5 leg that is not shared.  The association
            takes the flows of one source to one address then, and the app sees that address
            as the sender of every reply.
        @return: the association's number, for L{IDatagramFlowRequest.attach}.
        @raise OSError: the leg cannot be watched.
        """

    def closeAssociation(association: int) -> None:
        """End an association and close its leg.  Harmless if it has ended already."""

    def endFlows(flowIDs: list[int]) -> int:
        """
        End flows in any state.  Joined ones are reset on both sides, and
        L{IFlowHandler.flowClosed} follows, with ECONNABORTED.  Those that wait or are dialled
        are refused with a reset, and L{IFlowHandler.flowAbandoned} follows for each that the
        handler knows.  Those of datagrams are forgotten: the next datagram is a new request.
        Either of the two calls follows for them, too, as they were attached or not.

        @return: how many of them there were.
        """

    def listFlows(after: int, limit: int) -> list[ListedFlow]:
        """
        Flows that are open and flows that wait, TCP and UDP, in ascending order of their ids.
        Nothing that is carried pauses for it.  Flows that are there all the time are each in
        one of the pages of a listing; one that begins or ends meanwhile may be.

        Flows of datagrams wait or are attached: those that were refused, dropped or served are
        not listed.

        @param after: only flows with greater ids: 0, or the last one of the page before.  Then
            the page is as of the same moment as that one, if it is asked for within a second.
        @param limit: how many at most; fewer in the result mean that there are no more.
        """

    def followDatagrams(follow: bool) -> None:
        """
        Set whether L{IFlowHandler.flowClosed} is called as well when attached flows of datagrams
        end, and flows of standing decisions.  At first it is not.
        """

    def stand(
        destination: Endpoint, ours: bool, plan: DialPlan, seconds: float, note: int = 0
    ) -> int:
        """
        Have all flows to a destination dialled by a plan, without a request.  One that finds no
        room at once is a request all the same.

        @param destination: a literal address and a port.
        @param ours: whether flows of this machine are meant, or those of others.
        @param plan: standing, and without an fd.
        @param seconds: how long it is valid; infinity for until L{withdraw}.
        @param note: of all flows that are dialled by it.
        @return: the standing decision's number, for L{IFlowHandler.stood} and
            L{IFlowHandler.standingEnded}.  0 if the engine has no room for it, or is stopped.
        @raise OSError: the engine does not take the plan.
        """

    def withdraw() -> None:
        """End all standing decisions.  Flows that they have begun go on."""

    def tellStood() -> None:
        """Call L{IFlowHandler.stood} now for everything that has not been told."""

    def listen(protocol: Protocol, port: int) -> None:
        """
        Listen on this port of the gateway: its TCP connections become requests, its
        datagrams go to the receiver.  To be called after L{start}.
        """

    def receiveDatagrams(receiver: Callable[[list[Datagram]], None]) -> None:
        """Set the receiver of the datagrams for our services, which come in batches."""

    def reportCrowds(receiver: Callable[[Crowd], None]) -> None:
        """Set what is told, every two seconds at most, that flows had to make way for others."""

    def sendDatagrams(datagrams: list[Datagram]) -> None:
        """Send to apps; an app sees C{source} as the sender."""

    def stats() -> Stats:
        """Counters, by the names of C{struct ns_stats}."""

    def stop() -> Deferred[None]:
        """
        Take no new flows, give those with bytes under way at most a second to finish,
        reset the rest and free everything.  Fires when all is freed.
        """


class IPacketEngineFactory(Interface):
    """A plugin: one per engine, found by L{twisted.plugin.getPlugins}."""

    stackMode = Attribute("The value of the C{stackMode} setting (L{str}).")

    def createEngine(reactor: Any, udpTimeout: float) -> IPacketEngine:
        """
        Make an engine that is not started.  The native library is not loaded yet.

        @param udpTimeout: seconds after which an idle association ends.
        """


class IGateway(Interface):
    """The services on the gateway's addresses."""

    def start() -> None:
        """
        Start to serve.  The engine has been started.

        @raise nanotun.errors.EngineError, OSError: the engine refused.
        """

    def stop() -> None:
        """End every query and connection.  The engine still runs."""

    def acceptStream(
        request: IFlowRequest,
        openOnward: Callable[[Flow], Deferred[Connection]],
        note: int = 0,
    ) -> None:
        """
        An app connects to a port that L{IPacketEngine.listen} was called for.

        @param openOnward: connects to where a flow was meant for, as the rules say; fails
            with an L{nanotun.errors.UpstreamError}.
        @param note: see L{IFlowRequest.join}.
        """

    def isLocal(host: str) -> bool:
        """Whether a literal address is one of this machine's; other hosts get no answers."""
