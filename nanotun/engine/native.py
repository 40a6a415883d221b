"""
Binds a stack in the native library: L{NativeEngine.pump} feeds it, and
L{nanotun.engine.events} hears what happens in it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.addresses import GATEWAY4, GATEWAY6, KERNEL4, KERNEL6
from nanotun.engine import abi
from nanotun.engine.decisions import Decisions
from nanotun.engine.events import EventReader
from nanotun.engine.listing import listed
from nanotun.engine.services import ServiceDatagrams
from nanotun.errors import EngineError
from nanotun.flow import Crowd, Datagram, Endpoint, ListedFlow, Protocol, Stats
from nanotun.interfaces import DatagramLeg, DialPlan, IFlowHandler, IPacketEngine, ITunDevice
from nanotun.timer import Timer

#: The library's stack for each C{stackMode}.  gvisor gives every flow gVisor's whole TCP, with
#: loss recovery and window tuning: the choice for coverage.  simple gives this machine's own
#: flows a small TCP, because their link neither loses nor reorders: the choice for speed and
#: many flows.  All else, and the flows of other machines, is gVisor's in both.
STACKS = {"gvisor": abi.NS_STACK_GVISOR, "simple": abi.NS_STACK_SIMPLE}

#: Joined flows.  Each holds an fd and, idle, some 6 KB; one address has no more than
#: 64,512 ports towards one proxy anyway.
FLOW_LIMIT = 65536

#: Joined flows whose app has not completed the handshake.  Each holds an endpoint, an fd and a
#: connection of the proxy.
HALF_OPEN_LIMIT = FLOW_LIMIT // 16

#: Seconds that they may wait: long enough for a SYN-ACK that was lost three times.
HALF_OPEN = 10

#: Associations.  One through a SOCKS5 proxy holds two fds here and more on the proxy.
#: Opening one more ends the one that was idle for longest, and with it that app's outside
#: port.
ASSOCIATION_LIMIT = 4096

#: Flows that may wait to be told to Python, and as many that may be decided or dialled at a
#: time.  Each of the latter is a dial with a socket here and one on the proxy: a SYN flood
#: must not become a dial flood.  A program or a machine may have half of them, this machine
#: three quarters, and all others together three quarters.
PENDING_LIMIT = 4096

#: Events in one turn of the reactor after which the rest can wait: as many requests take some
#: 6 ms.
TURN = 32

#: Pairs of a UDP source and a destination: a small record each, without an fd.  One more
#: makes the library forget the pair that was idle for longest; its next datagram is decided
#: anew.
DATAGRAM_FLOW_LIMIT = 65536

#: Seconds.  An app on this machine cannot vanish without a word, but a machine behind it
#: can; most NATs forget a silent flow after five minutes or more.
KEEPALIVE = 300

#: Seconds that a half-closed flow may be silent: what Linux servers commonly grant.
HALF_CLOSED = 600

#: While stopping, seconds between two checks of how many flows are left, and seconds until
#: the rest are reset.
QUIESCE_INTERVAL = 0.02
QUIESCE_LIMIT = 1.0

#: Packets read per check while stopping: acknowledgements of bytes under way.
QUIESCE_BUDGET = 512


@implementer(IPacketEngine)
class NativeEngine:
    """
    The engine for each stack in L{STACKS}.  Before the start and after the stop all its
    methods are harmless.

    @ivar flowLimit: how many flows may be joined; read at the start.
    @ivar associationLimit: how many associations there may be; likewise.
    @param stackMode: a key of L{STACKS}.
    @param udpTimeout: seconds after which an idle association ends.
    @param load: makes the L{abi.NativeLibrary}.  Called by L{start}.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        stackMode: str,
        udpTimeout: float,
        load: Callable[[], abi.NativeLibrary] = abi.NativeLibrary.load,
    ) -> None:
        self.stackMode = stackMode
        self.flowLimit = FLOW_LIMIT
        self.associationLimit = ASSOCIATION_LIMIT
        self._reactor = reactor
        self._udpTimeout = udpTimeout
        self._load = load
        self._library: abi.NativeLibrary | None = None
        self._handle = 0
        self._follows = False
        self._decisions: Decisions | None = None
        self._events: EventReader | None = None
        self._stopping: list[Deferred[None]] | None = None
        self._stopDeadline = 0.0
        self._returned: Callable[[], None] | None = None
        # By an association's number: called when it has ended, and for a refusal.
        self._ended: dict[int, Callable[[int], None]] = {}
        self._refused: dict[int, Callable[[], None]] = {}
        self._crowds: Callable[[Crowd], None] = lambda crowd: None
        self._services = ServiceDatagrams()
        self._more = Timer(reactor, self._receive)

    def start(self, device: ITunDevice, handler: IFlowHandler) -> None:
        """See L{IPacketEngine.start}."""
        if self._handle:
            raise EngineError("the packet engine runs already; please report this.")
        library = self._load()
        handle = library.ns_open(_configOf(self, device, self._udpTimeout))
        if handle <= 0:
            raise EngineError(
                f"the {self.stackMode} stack cannot be made on {device.name}: "
                f"{os.strerror(-handle)}."
            )
        eventFD = library.ns_event_fd(handle)
        if eventFD < 0:
            library.ns_close(handle)
            raise EngineError(
                f"the {self.stackMode} stack on {device.name} has no event descriptor: "
                f"{os.strerror(-eventFD)}."
            )
        library.ns_follow(handle, self._follows)
        self._library, self._handle = library, handle
        self._decisions = decisions = Decisions(library, handle, self.flowLimit)
        self._events = EventReader(
            library, handle, eventFD, handler, decisions, self._heard, self._crowded
        )
        self._reactor.addReader(self._events)

    def pump(self, budget: int) -> int:
        """See L{IPacketEngine.pump}."""
        library, events = self._library, self._events
        if library is None or events is None:
            return 0
        total = 0
        while True:
            taken = library.ns_pump(self._handle, budget - total)
            if taken < 0:
                raise OSError(-taken, os.strerror(-taken))
            total += taken
            # The library stops early when events wait.  To handle them here and
            # continue saves a turn of the reactor for every connection; but flows that
            # still wait are for the next turn.
            delivered = events.deliver()
            if not 0 < delivered < TURN or not taken or total >= budget or not self._handle:
                return total

    def lend(self, returned: Callable[[], None]) -> bool:
        """See L{IPacketEngine.lend}."""
        if self._library is None or self._stopping is not None or self._returned is not None:
            return False
        if self._library.ns_lend(self._handle) < 0:
            return False
        self._returned = returned
        return True

    def openAssociation(
        self,
        leg: DatagramLeg,
        ended: Callable[[int], None],
        refused: Callable[[], None],
        shared: bool = False,
        name: str = "",
    ) -> int:
        """See L{IPacketEngine.openAssociation}."""
        if self._library is None:
            os.close(leg.fd)
            raise OSError(errno.ESHUTDOWN, "the packet engine does not run")
        flags = abi.NS_LEG_SHARED if shared else 0
        text = name.encode("ascii")
        result = self._library.ns_associate(self._handle, leg.fd, leg.kind, flags, text, len(text))
        association = abi.check(result, "ns_associate")
        self._ended[association] = ended
        self._refused[association] = refused
        return association

    def closeAssociation(self, association: int) -> None:
        """See L{IPacketEngine.closeAssociation}."""
        self._refused.pop(association, None)
        if self._ended.pop(association, None) is not None and self._library is not None:
            abi.check(self._library.ns_dissociate(self._handle, association), "ns_dissociate")

    def endFlows(self, flowIDs: list[int]) -> int:
        """See L{IPacketEngine.endFlows}."""
        if self._library is None or not flowIDs:
            return 0
        result = self._library.ns_end(self._handle, abi.idArray(flowIDs), len(flowIDs))
        return abi.check(result, "ns_end")

    def listFlows(self, after: int, limit: int) -> list[ListedFlow]:
        """See L{IPacketEngine.listFlows}."""
        return [] if self._library is None else listed(self._library, self._handle, after, limit)

    def followDatagrams(self, follow: bool) -> None:
        """See L{IPacketEngine.followDatagrams}."""
        self._follows = follow
        if self._library is not None:
            abi.check(self._library.ns_follow(self._handle, follow), "ns_follow")

    def stand(
        self, destination: Endpoint, ours: bool, plan: DialPlan, seconds: float, note: int = 0
    ) -> int:
        """See L{IPacketEngine.stand}."""
        if self._decisions is None:
            return 0
        return self._decisions.dials.stand(destination, ours, plan, seconds, note)

    def withdraw(self) -> None:
        """See L{IPacketEngine.withdraw}."""
        if self._decisions is not None:
            self._decisions.dials.withdraw()

    def tellStood(self) -> None:
        """See L{IPacketEngine.tellStood}."""
        if self._decisions is not None and self._events is not None:
            self._decisions.dials.tellStood(self._events.handler)

    def listen(self, protocol: Protocol, port: int) -> None:
        """See L{IPacketEngine.listen}."""
        if self._library is not None:
            abi.check(self._library.ns_listen(self._handle, protocol, port), "ns_listen")

    def receiveDatagrams(self, receiver: Callable[[list[Datagram]], None]) -> None:
        """See L{IPacketEngine.receiveDatagrams}."""
        self._services.receiver = receiver

    def reportCrowds(self, receiver: Callable[[Crowd], None]) -> None:
        """See L{IPacketEngine.reportCrowds}."""
        self._crowds = receiver

    def sendDatagrams(self, datagrams: list[Datagram]) -> None:
        """See L{IPacketEngine.sendDatagrams}."""
        if self._library is not None:
            self._services.send(self._library, self._handle, datagrams)

    def _receive(self) -> None:
        """Read some datagrams for the services, and any more of them in the next turn."""
        if self._library is not None and self._services.receive(self._library, self._handle):
            self._more.start(0)

    def _heard(self, kind: int, number: int, error: int) -> None:
        """An event that is not about a flow; C{number} is the association's, if any."""
        if kind == abi.NS_EVENT_DATAGRAMS:
            if not self._more.active:
                self._receive()
        elif kind == abi.NS_EVENT_ASSOCIATION_CLOSED:
            self._refused.pop(number, None)
            ended = self._ended.pop(number, None)
            if ended is not None:
                ended(error)
        elif kind == abi.NS_EVENT_ASSOCIATION_REFUSED:
            # The event is lazy, so the association may be gone.
            refused = self._refused.get(number)
            if refused is not None:
                refused()
        elif kind == abi.NS_EVENT_DEVICE_RETURNED:
            returned, self._returned = self._returned, None
            if returned is not None:
                returned()
        else:
            raise EngineError(f"The native library reported an unknown event {kind}.")

    def _crowded(self, crowd: Crowd) -> None:
        self._crowds(crowd)

    def stats(self) -> Stats:
        """See L{IPacketEngine.stats}."""
        if self._library is None:
            return Stats(*(0 for _ in Stats._fields))
        return abi.readStats(self._library, self._handle)

    def stop(self) -> Deferred[None]:
        """See L{IPacketEngine.stop}."""
        if self._library is None:
            return succeed(None)
        done: Deferred[None] = Deferred()
        if self._stopping is not None:
            self._stopping.append(done)
            return done
        self._stopping = [done]
        self._stopDeadline = self._reactor.seconds() + QUIESCE_LIMIT
        self._quiesce()
        return done

    def _quiesce(self) -> None:
        library, decisions, events = self._library, self._decisions, self._events
        assert library is not None and decisions is not None and events is not None
        left = library.ns_quiesce(self._handle)
        if left > 0 and self._reactor.seconds() < self._stopDeadline:
            # Nothing else may read the device any more, and without the apps'
            # acknowledgements no flow would ever finish.
            library.ns_pump(self._handle, QUIESCE_BUDGET)
            events.deliver()
            self._reactor.callLater(QUIESCE_INTERVAL, self._quiesce)
            return
        events.deliver()
        self._reactor.removeReader(events)
        self._more.cancel()
        decisions.close()
        events.close()
        handle, self._handle, self._library = self._handle, 0, None
        self._ended.clear()
        self._refused.clear()
        result = library.ns_close(handle)
        if result < 0:
            self._log.error("The stack closed with an error: {error}", error=os.strerror(-result))
        waiting, self._stopping = self._stopping or [], None
        for done in waiting:
            done.callback(None)


def _configOf(engine: NativeEngine, device: ITunDevice, udpTimeout: float) -> abi.ns_config:
    return abi.ns_config(
        size=abi.CONFIG_SIZE,
        tun_fd=device.fileno(),
        mtu=device.mtu,
        stack=STACKS[engine.stackMode],
        vnet_header=device.vnetHeader,
        pending_limit=PENDING_LIMIT,
        flow_limit=engine.flowLimit,
        half_open_limit=HALF_OPEN_LIMIT,
        half_open_s=HALF_OPEN,
        keepalive_s=KEEPALIVE,
        half_closed_s=HALF_CLOSED,
        association_limit=engine.associationLimit,
        datagram_flow_limit=DATAGRAM_FLOW_LIMIT,
        udp_timeout_ms=round(udpTimeout * 1000),
        gateway4=abi.bytes4(inet_pton(AF_INET, GATEWAY4)),
        gateway6=abi.bytes16(inet_pton(AF_INET6, GATEWAY6)),
        kernel4=abi.bytes4(inet_pton(AF_INET, KERNEL4.partition("/")[0])),
        kernel6=abi.bytes16(inet_pton(AF_INET6, KERNEL6.partition("/")[0])),
        device=device.index,
    )
