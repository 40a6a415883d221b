"""
Follows the network, with and without C{autoDefaultRoute}.

Changes come in swarms, so L{SETTLE} seconds pass between the first message of the kernel's
and the look.  Without a message there is a look every L{CHECK} seconds, as messages can be
lost.

What a change means::

    another way to the Internet,    what was learned of servers and proxies is forgotten, and
    or another address of ours      connections that wait are opened anew
    a leg for datagrams would       its association ends, and its flows go on by another one
    send by another interface now
    a connection's own address      the connection ends, unless there is no way at all to its
    has left                        peer
    the machine has slept           as for another way, and all associations end: their relays
                                    have forgotten them
    another VPN takes the default   the log says how it is treated
    route
    any                             no decision stands, at once
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from socket import AF_INET, AF_INET6
from typing import Any, Protocol

from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.addresses import KERNEL4, KERNEL6, isAddress
from nanotun.config.askedservers import literalHosts
from nanotun.config.settings import Settings
from nanotun.daemon.devicewatch import DeviceWatch
from nanotun.daemon.standing import Withdrawals
from nanotun.daemon.vpnwatch import VpnWatch
from nanotun.errors import RoutingError
from nanotun.interfaces import IPart
from nanotun.linux.departed import GONE_FOR, Departed
from nanotun.linux.network import interfaceNames, nextHops
from nanotun.linux.sources import LegRoute, Sources, sourceTo
from nanotun.routing.follower import CHECK, SETTLE
from nanotun.routing.host import proxyHosts
from nanotun.routing.monitor import NetworkMonitor
from nanotun.routing.values import SOMEWHERE4, SOMEWHERE6
from nanotun.timer import Timer
from nanotun.upstream.dial.sockets import MARKED, Sockets

#: Sources of packets that do not leave.
_NOWHERE = {"", KERNEL4.partition("/")[0], KERNEL6.partition("/")[0]}

#: Seconds by which the time between two looks may be longer than it should be.  More means
#: that the machine, or the daemon, has slept.
SLEPT = 10.0


def sinceBoot() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def waysOut(
    settings: Settings, sockets: Sockets = MARKED, inCell: bool = False
) -> frozenset[object]:
    """
    Where packets of nanotun's leave: the interfaces, the gateways there, and the addresses that
    they are sent from; empty if there is no way out.  The tunnel is none: without
    C{autoDefaultRoute} the default route may lead into it, for marked packets as well.

    @param sockets: makes the sockets that would send them.
    @param inCell: whether the tunnel is elsewhere, and a device of its name another one's.

    @raise OSError: the kernel does not answer.
    """
    hosts = dict.fromkeys(
        [*filter(isAddress, proxyHosts(settings)), *literalHosts(settings), SOMEWHERE4, SOMEWHERE6]
    )
    # Any port will do.
    sources = {
        sourceTo((host, 9), AF_INET6 if ":" in host else AF_INET, sockets.openDatagram)
        for host in hosts
    }
    names = interfaceNames()
    hops = {
        hop
        for hop in nextHops(hosts, sockets.mark)
        if inCell or names.get(hop.interface) != settings.tunName
    }
    return frozenset(hops | (sources - _NOWHERE))


class Movable(Protocol):
    """What L{nanotun.router.udp.associations.Associations} are to this."""

    def networkMoved(self, moved: Callable[[LegRoute], bool], dials: bool) -> None:
        """See L{nanotun.router.udp.associations.Associations.networkMoved}."""


@implementer(IPart)
class NetworkWatch:
    """
    See the module.

    @param makeMonitor: makes a monitor from the function that it calls.
    @param device: looks after the device; L{None} where it is in a cell, which nobody else
        has access to.
    @param ways: see L{waysOut}.
    @param followers: called in this order when there is another way out; see the module.
    @param vpn: looks for other VPNs; L{None} where no packet of theirs arrives.
    @param standing: told of every change.
    @param sinceBoot: see L{sinceBoot}.
    """

    name = "the look at the network"

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        makeMonitor: Callable[[Callable[[], None]], NetworkMonitor],
        device: DeviceWatch | None,
        ways: Callable[[], Iterable[object]],
        associations: Movable,
        followers: Iterable[Callable[[], object]],
        standing: Withdrawals,
        vpn: VpnWatch | None = None,
        departed: Departed | None = None,
        makeSources: Callable[[], Sources] = lambda: Sources(MARKED.openDatagram),
        sinceBoot: Callable[[], float] = sinceBoot,
    ) -> None:
        self._device = device
        self._readWays = ways
        self._associations = associations
        self._followers = tuple(followers)
        self._standing = standing
        self._vpn = vpn
        self._departed = Departed(clock.seconds) if departed is None else departed
        self._makeSources = makeSources
        self._sinceBoot = sinceBoot
        self._monitor = makeMonitor(self._heardOf)
        self._settle = Timer(clock, self._settled)
        self._loop = LoopingCall(self._check)
        self._loop.clock = clock
        self._ways: frozenset[object] = frozenset()
        # What has not been acted upon yet, as the kernel may not have answered.
        self._heard = self._slept = False
        self._lookedAt = 0.0

    def start(self) -> None:
        """See L{IPart.start}."""
        if self._device is not None:
            self._device.start()
        try:
            self._monitor.start()
        except RoutingError as error:
            self._log.warn(
                "{error} They are looked for every few seconds.",
                error=str(error),
            )
        self._lookedAt = self._sinceBoot()
        try:
            self._departed.look()
            self._ways = frozenset(self._readWays())
        except OSError as error:
            self._cannotLook(error)
        if self._vpn is not None:
            self._try(self._vpn.look)
        self._loop.start(CHECK, now=False)

    def stop(self) -> None:
        """See L{IPart.stop}."""
        self._monitor.stop()
        self._settle.cancel()
        if self._loop.running:
            self._loop.stop()
        if self._device is not None:
            self._device.stop()

    def _heardOf(self) -> None:
        """The kernel says that something has changed."""
        if self._vpn is not None:
            self._vpn.forget()
        self._standing.networkChanged()
        if self._device is not None:
            # At once, because nothing gets through without it.
            self._device.look()
        self._heard = True
        if not self._settle.active and self._loop.running:
            self._settle.start(SETTLE)

    def _check(self) -> None:
        self._standing.look(self._monitor.isListening)
        if not self._settle.active:
            self._settled()

    def _settled(self) -> None:
        if self._device is not None:
            self._try(self._device.lookClosely)
        self._try(self._look)
        if self._vpn is not None:
            self._try(self._vpn.look)
        if self._departed.waits and self._loop.running:
            self._settle.start(GONE_FOR)

    def _try(self, look: Callable[[], None]) -> None:
        """Look; what goes wrong in one look keeps no other from being made."""
        try:
            look()
        except OSError as error:
            self._cannotLook(error)
        except Exception:
            self._log.failure("Looking at the network failed: internal error")

    def _look(self) -> None:
        self._slept = self._hasSlept() or self._slept
        self._departed.look()
        ways = frozenset(self._readWays())
        slept, self._slept = self._slept, False
        # While there is no way out, nothing can be done; and it may be the old one that returns.
        another = slept or (bool(ways) and ways != self._ways)
        self._ways = ways
        self._heard = self._heard or another
        if another:
            for follow in self._followers:
                follow()
        if slept:
            self._associations.networkMoved(lambda route: True, True)
        elif self._heard:
            self._associations.networkMoved(self._makeSources().moved, another)
        self._heard = False

    def _hasSlept(self) -> bool:
        now = self._sinceBoot()
        gap, self._lookedAt = now - self._lookedAt, now
        if gap <= CHECK + SLEPT:
            return False
        self._log.info(
            "The machine has slept for {seconds} s; UDP is sent over new associations.",
            seconds=round(gap),
        )
        return True

    def _cannotLook(self, error: OSError) -> None:
        self._log.debug("The network cannot be looked at: {error}", error=error.strerror)
