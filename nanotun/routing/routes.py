"""
The routes as a part of the daemon: set at the start, kept up to date while the network
changes, taken back at the stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.config.settings import Settings
from nanotun.interfaces import End, IPart
from nanotun.routing.confirmation import Confirmation
from nanotun.routing.exceptions import Exceptions
from nanotun.routing.firewall.cgroupwatch import CgroupWatch
from nanotun.routing.follower import Follower
from nanotun.routing.host import proxyHosts
from nanotun.routing.monitor import NetworkMonitor
from nanotun.routing.reconciler import Reconciler
from nanotun.rundir import command

#: Seconds between two refreshes of the L{Exceptions}: as long as a proxy's address is
#: used without a new lookup (L{nanotun.upstream.dial.resolver}).
REFRESH = 60.0


@implementer(IPart)
class Routes:
    """
    See L{IPart}.  L{Reconciler} knows what to set; this knows when.

    @param makeMonitor: makes a monitor from the function that it calls.
    @param networkChanged: called when the plan depends on something that has changed.
    @param confirmSeconds: how long to wait for L{confirm} before everything is taken
        back; 0 for no confirmation.
    @param endWith: ends the daemon with an exit status.
    @param how: how the daemon ends; asked by L{stop}.
    @param closed: what to log when a kill switch stays closed until somebody opens it.
    @param adapt: has the firewall leave DNS servers in the excluded networks of other settings
        alone, and takes over which servers the daemon itself asks; says whether that needs anything
        else to be set than before.
    @param makeWatch: makes a watch of the chosen control groups from the function that it calls.
    @param only: what alone enters the tunnel, as it is written; empty for everything.
    """

    name = "the routes"

    _log = Logger()

    def __init__(
        self,
        reconciler: Reconciler,
        exceptions: Exceptions,
        makeMonitor: Callable[[Callable[[], None]], NetworkMonitor],
        clock: Any,
        networkChanged: Callable[[], None],
        confirmSeconds: int,
        endWith: Callable[[int], None],
        how: Callable[[], End],
        closed: str,
        adapt: Callable[[Settings], bool],
        makeWatch: Callable[[Callable[[], None]], CgroupWatch],
        only: Sequence[str] = (),
    ) -> None:
        self._reconciler = reconciler
        self._applied = reconciler.applied
        self._exceptions = exceptions
        self._networkChanged = networkChanged
        self._confirmation = Confirmation(clock, confirmSeconds, self._unconfirmed)
        self._endWith = endWith
        self._how = how
        self._closed = closed
        self._adapt = adapt
        self._active = False
        self._wasClosed = False
        self._follower = Follower(clock, self._follow)
        self._monitor = makeMonitor(self._follower.notice)
        self._watch = makeWatch(self._follower.now)
        self._only = list(only)
        self._refreshing = LoopingCall(self._refresh)
        self._refreshing.clock = clock

    def start(self) -> None:
        """See L{IPart.start}."""
        # A kill switch that a crash left stays in force, even if this start fails.
        keeps = self._reconciler.load()
        try:
            keeps = self._reconciler.adopt(not self._confirmation.seconds) or keeps
            with self._reconciler.askingAsBefore():
                self._exceptions.readNow()
            # Before the first plan, so that no change is missed.
            self._monitor.start()
            self._watch.start()
            self._reconcile()
            self._reconciler.checkKernel()
        except BaseException:
            self._monitor.stop()
            self._watch.stop()
            if keeps:
                self._log.warn("{sentence}", sentence=self._closed)
            else:
                self._applied.undoAll()
            self._reconciler.close()
            raise
        self._wasClosed = keeps
        self._active = True
        self._follower.start()
        # Names that could not be looked up in time are looked up again at once.
        missing = not self._exceptions.complete
        self._refreshing.start(REFRESH, now=missing).addErrback(self._bug)
        if self._confirmation.start():
            self._log.warn(
                "The routes are taken back in {seconds} s unless '{command}' is called.",
                seconds=self._confirmation.seconds,
                command=command("confirm", self._applied.runDir),
            )

    def stop(self) -> None:
        """
        See L{IPart.stop}.  A kill switch opens only if somebody wants the daemon to end; else
        everything stays, as after a crash.
        """
        self._end()
        closed = self._applied.killSwitch and self._staysClosed(self._how())
        if not closed and not self._applied.undoAll():
            self._log.error(
                "Not all routes could be taken back; run '{command}'.",
                command=self._applied.recovery,
            )
        self._reconciler.close()

    def configure(self, settings: Settings) -> None:
        """
        Use the proxies, the DNS servers and the excluded networks of these settings; the rules are
        updated once the proxies' addresses are known.  Nothing happens if they are the same as
        before.
        """
        if self._adapt(settings):
            self._follower.notice()
        hosts = proxyHosts(settings)
        if hosts != self._exceptions.hosts:
            self._exceptions.setHosts(hosts)
            self._refresh()

    def networkMoved(self) -> None:
        """Look the proxies up again, as the machine is in another network."""
        if self._active:
            self._refresh()

    def passBack(self, hosts: Iterable[str]) -> None:
        """
        Let past the tunnel what these hosts send by way of this machine.

        @param hosts: where proxies on this machine pass connections on to; literal addresses.
        """
        hops = tuple(sorted(hosts))
        if hops != self._exceptions.hops:
            self._exceptions.hops = hops
            self._refreshed(True)

    def letsPast(self, host: str) -> bool:
        """
        Whether what a host sends by way of this machine goes past the tunnel; if it may and does
        not yet, the routes are brought up to date first.

        @param host: another address of one of L{passBack}'s, or of a proxy's.
        """
        if self._active and not self._reconciler.letsPast(host):
            self._follower.now()
        return self._active and self._reconciler.letsPast(host)

    def confirm(self) -> bool:
        """
        Keep the routes: the user can still reach the machine.

        @return: whether a confirmation was awaited.
        """
        if not self._confirmation.confirm():
            return False
        self._log.info("The routes are confirmed.")
        # The kill switch is put in force only now.
        self._follower.notice()
        return True

    def report(self) -> dict[str, Any]:
        """
        For C{nanotun status}.

        @return: C{changes}, how many are in force; C{killSwitch}; C{unconfirmed}, whether
            they are taken back unless L{confirm} is called; C{trouble}, a sentence or an
            empty string; C{only}, what alone enters the tunnel, or an empty list.
        """
        return {
            "changes": len(self._applied.made),
            "killSwitch": self._applied.killSwitch,
            "unconfirmed": self._confirmation.isAwaited,
            "trouble": self._follower.complaint,
            "only": list(self._only),
        }

    def _unconfirmed(self) -> None:
        self._end()
        self._applied.undoAll()
        self._log.error(
            "Nobody called '{command}' within {seconds} s: the routes are taken back, and "
            "nanotun ends.",
            command=command("confirm", self._applied.runDir),
            seconds=self._confirmation.seconds,
        )
        self._endWith(1)

    def _staysClosed(self, how: End) -> bool:
        """Whether the kill switch stays closed at this end; logs it."""
        if how is End.RESTART:
            self._log.warn("The kill switch stays closed until the next start.")
            return True
        if how is End.FAILED or (how is End.NOT_STARTED and self._wasClosed):
            self._log.warn("{sentence}", sentence=self._closed)
            return True
        return False

    def _end(self) -> None:
        self._active = False
        self._monitor.stop()
        self._watch.stop()
        self._follower.stop()
        if self._refreshing.running:
            self._refreshing.stop()
        self._confirmation.stop()

    def _follow(self) -> bool:
        """
        Check the routes and bring them up to date; called by the follower.

        @return: whether one of nanotun's changes had been undone by somebody else.
        @raise RoutingError: a change that is needed cannot be made.
        """
        if not self._active:
            return False
        before = self._reconciler.outlook
        missing = self._reconcile()
        if missing:
            self._log.info(
                "Of nanotun's routes, rules and settings {count} had been taken away; they are "
                "back.",
                count=missing,
            )
        if self._reconciler.outlook != before:
            self._log.info("The network has changed; the routes follow.")
            self._networkChanged()
            self._refresh()
        self._reconciler.checkIPv6()
        return missing > 0

    def _reconcile(self) -> int:
        """See L{Reconciler.reconcile}."""
        confirmation = self._confirmation
        # A crash before the confirmation must not cut anybody off.
        unconfirmed = confirmation.seconds and (confirmation.isAwaited or not self._active)
        return self._reconciler.reconcile(not self._active, not unconfirmed)

    def _refresh(self) -> Any:
        return self._exceptions.refresh().addCallback(self._refreshed).addErrback(self._bug)

    def _refreshed(self, different: bool) -> None:
        if different and self._active:
            self._follower.notice()

    def _bug(self, failure: Any) -> None:
        self._log.failure("Following the network failed: internal error", failure)
