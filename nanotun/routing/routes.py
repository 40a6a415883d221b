"""
The routes as a part of the daemon: set at the start, followed, taken back at the stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.errors import RoutingError
from nanotun.interfaces import IPart
from nanotun.routing.alone import checkAlone
from nanotun.routing.applied import Ledger
from nanotun.routing.changes import Changes, RuleChange
from nanotun.routing.exceptions import Surroundings
from nanotun.routing.follower import Follower
from nanotun.routing.host import HostReader
from nanotun.routing.interfaces import IChange
from nanotun.routing.netlink import CachedRoutes
from nanotun.routing.plan import plan
from nanotun.routing.values import Host, Rule, Wishes

#: Seconds between two looks at what takes a while to find out.  As long as a
#: proxy's address is used without a new lookup (L{nanotun.upstream.dial.resolver}).
REFRESH = 60.0

#: Seconds by which the time of day may run away from the machine's own clock.  More
#: means that the machine slept, and may have woken up elsewhere.
SLEPT = 10.0


class Monitor(Protocol):
    """What is needed of L{nanotun.routing.monitor.NetworkMonitor}."""

    def start(self) -> None:
        """Begin to listen."""

    def stop(self) -> None:
        """Listen no more."""


@implementer(IPart)
class Routes:
    """
    See L{IPart}.

    @param kernel: as of one moment; made to forget before each look.
    @param firewall: makes the changes that have to be done before the traffic is
        caught; takes whether they are to outlive a crash.
    @param makeMonitor: makes a monitor that calls what it is given.
    @param networkChanged: is called when the machine is at another network.
    @param confirmSeconds: after which everything is taken back unless L{confirm} is
        called; 0 for never.
    @param endWith: ends the daemon with this status.
    """

    name = "the routes"

    _log = Logger()

    def __init__(
        self,
        wishes: Wishes,
        kernel: CachedRoutes,
        reader: HostReader,
        surroundings: Surroundings,
        changes: Changes,
        ledger: Ledger,
        firewall: Callable[[bool], list[IChange]],
        makeMonitor: Callable[[Callable[[], None]], Monitor],
        clock: Any,
        networkChanged: Callable[[], None],
        confirmSeconds: int,
        endWith: Callable[[int], None],
        wallClock: Callable[[], float] = time.time,
    ) -> None:
        self._wishes = wishes
        self._kernel = kernel
        self._reader = reader
        self._surroundings = surroundings
        self._changes = changes
        self._ledger = ledger
        self._firewall = firewall
        self._clock = clock
        self._networkChanged = networkChanged
        self._confirmSeconds = confirmSeconds
        self._endWith = endWith
        self._wallClock = wallClock
        self._confirming: IDelayedCall | None = None
        self._host: Host | None = None
        self._active = False
        self._awake = 0.0
        self._follower = Follower(clock, self._look)
        self._monitor = makeMonitor(self._follower.notice)
        self._refreshing = LoopingCall(self._refresh)
        self._refreshing.clock = clock

    def start(self) -> None:
        """See L{IPart.start}."""
        self._ledger.load()
        # What keeps traffic in after a crash goes on doing so, whatever becomes of this.
        keeps = self._ledger.killSwitch
        checkAlone(self._kernel, self._ledger, self._wishes.device)
        try:
            # Nobody else would ever undo them.
            left = self._changes.taggedRules()
            self._ledger.adopt(reversed(left))
            keeps = keeps or any(_isKillSwitch(change.rule) for change in left)
            self._surroundings.readNow()
            # From here on no change is missed.
            self._monitor.start()
            self._reconcile()
            self._checkKernel()
        except BaseException:
            self._monitor.stop()
            if not keeps:
                self._ledger.undoAll()
            self._kernel.close()
            raise
        self._active = True
        self._awake = self._asleepFor()
        self._follower.start()
        # What could not be found out yet is tried again at once.
        missing = not self._surroundings.complete
        self._refreshing.start(REFRESH, now=missing).addErrback(self._bug)
        if self._confirmSeconds:
            self._confirming = self._clock.callLater(self._confirmSeconds, self._unconfirmed)
            self._log.warn(
                "The routes are taken back in {seconds} s unless 'nanotun confirm' is called.",
                seconds=self._confirmSeconds,
            )

    def stop(self) -> None:
        """See L{IPart.stop}."""
        self._end()
        if not self._ledger.undoAll():
            self._log.error("Not all routes could be taken back; run 'nanotun recover'.")
        self._kernel.close()

    def setProxies(self, hosts: Sequence[str]) -> None:
        """
        Other proxies are used from now on; their rules follow.

        @param hosts: their names and addresses.
        """
        self._surroundings.setHosts(hosts)
        self._refresh()

    def confirm(self) -> bool:
        """
        The user can still reach the machine: leave everything as it is.

        @return: whether that was awaited.
        """
        if self._confirming is None:
            return False
        self._confirming.cancel()
        self._confirming = None
        self._log.info("The routes are confirmed.")
        # The kill switch waits for it, too.
        self._follower.notice()
        return True

    def report(self) -> dict[str, Any]:
        """
        For C{nanotun status}.

        @return: C{changes}, how many there are; C{killSwitch}; C{unconfirmed}, whether
            they are taken back unless L{confirm} is called; C{trouble}, a sentence or
            nothing.
        """
        return {
            "changes": len(self._ledger.made),
            "killSwitch": self._ledger.killSwitch,
            "unconfirmed": self._confirming is not None,
            "trouble": self._follower.complaint,
        }

    def _unconfirmed(self) -> None:
        self._confirming = None
        self._end()
        self._ledger.undoAll()
        self._log.error(
            "Nobody called 'nanotun confirm' within {seconds} s: the routes are taken back, and "
            "nanotun ends.",
            seconds=self._confirmSeconds,
        )
        self._endWith(1)

    def _end(self) -> None:
        self._active = False
        self._monitor.stop()
        self._follower.stop()
        if self._refreshing.running:
            self._refreshing.stop()
        if self._confirming is not None:
            self._confirming.cancel()
            self._confirming = None

    def _look(self) -> bool:
        """
        Look after the routes; called by the follower.

        @return: whether something of ours had been taken away.
        @raise RoutingError: a change that is needed cannot be made.
        """
        if not self._active:
            return False
        before = self._host
        missing = self._reconcile()
        if missing:
            self._log.info(
                "Of nanotun's routes, rules and settings {count} had been taken away; they are "
                "back.",
                count=missing,
            )
        asleep = self._asleepFor()
        if self._host != before or abs(asleep - self._awake) > SLEPT:
            self._awake = asleep
            self._log.info("The network has changed; the routes follow.")
            self._networkChanged()
            self._refresh()
        if _lacksIPv6(self._wishes, self._host):
            raise RoutingError(
                f"The device {self._wishes.device} has lost its IPv6 address, so IPv6 is "
                "unreachable now; restart nanotun to have it captured again."
            )
        return missing > 0

    def _reconcile(self) -> int:
        """
        Plan anew, and make it so.

        @return: how many changes of ours had been taken away.
        @raise RoutingError: it cannot be.
        """
        try:
            return self._reconcileOrRaise()
        except OSError as error:
            raise RoutingError(
                f"The kernel does not say what its rules and routes are: {error.strerror}."
            ) from None

    def _reconcileOrRaise(self) -> int:
        self._kernel.forget()
        ledger, surroundings = self._ledger, self._surroundings
        host = self._reader.read(surroundings.proxies, surroundings.sshPorts, ledger.valuesBefore())
        wishes = self._wishes
        if self._confirmSeconds and (self._confirming is not None or not self._active):
            # A crash before the confirmation must not cut anybody off.
            wishes = wishes._replace(killSwitch=False)
        if _lacksIPv6(wishes, host):
            if not self._active:
                raise RoutingError(
                    f"The device {wishes.device} has no IPv6 address; enable IPv6 on this machine "
                    "(net.ipv6.conf.default.disable_ipv6=0) or set ipv6 to auto or block."
                )
            # Somebody turned it off while we run: nothing leaks, and IPv4 is looked after.
            wishes = wishes._replace(ipv6="block")
        first, last = plan(wishes, host)
        wanted = [
            *map(self._changes.make, first),
            *self._firewall(wishes.killSwitch),
            *map(self._changes.make, last),
        ]
        _, missing = ledger.reconcile(wanted, wishes.killSwitch)
        self._host = host
        return missing

    def _checkKernel(self) -> None:
        """An old kernel ignores what it does not know of a rule, and takes the rest."""
        self._kernel.forget()
        broken = [each for each in self._ledger.broken() if isinstance(each, RuleChange)]
        if broken:
            raise RoutingError(
                f"The kernel did not do '{broken[0].describe()}' as it was told; nanotun's routes "
                "need Linux 4.17 or newer."
            )

    def _refresh(self) -> Any:
        return self._surroundings.refresh().addCallback(self._refreshed).addErrback(self._bug)

    def _refreshed(self, different: bool) -> None:
        if different and self._active:
            self._follower.notice()

    def _asleepFor(self) -> float:
        return float(self._wallClock() - self._clock.seconds())

    def _bug(self, failure: Any) -> None:
        self._log.failure("While following the network", failure)


def _isKillSwitch(rule: Rule) -> bool:
    """IPv6 is unreachable where it is blocked, too."""
    return rule.action == "unreachable" and rule.family == 4


def _lacksIPv6(wishes: Wishes, host: Host | None) -> bool:
    """Whether IPv6 is to be captured by a device that has none."""
    captured = wishes.ipv6 == "capture"
    return captured and host is not None and host.hasIPv6 and not host.tunnelHasIPv6
