"""
Checks one upstream of a group with handshakes of its own.

When the next check is made::

    the member is                        the check is made
    healthy                              after the interval, give or take, unless the
                                         member has answered a flow meanwhile
    healthy, but the last check failed   after RECHECK_TIME
    down                                 after its breaker's back-off
    half open                            after RECHECK_TIME
    in doubt                             at once, but not sooner than DOUBT_INTERVAL
                                         after the last one
    asked for by the user                at once, if nothing is known that is newer than
                                         FRESH
    down, in another network             at once

If the first check fails, the member is down at once: a proxy that does not run should not
look well for as long as it takes to be sure.

To find out whether the member carries UDP, an association is opened and closed: at the
start, when the member is back, after a check while it is not known, and every
DATAGRAMS_INTERVAL.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.errors import DatagramsUnsupported, ProxyError, UpstreamError, UpstreamTimeout
from nanotun.interfaces import DatagramLeg, IHealthCheck
from nanotun.timer import Timer
from nanotun.upstream.group.breaker import BreakerState
from nanotun.upstream.group.member import Member
from nanotun.upstream.group.members import Members

#: Seconds for one check, and no more than a connection may take.
CHECK_TIMEOUT = 4.0

#: Seconds until a check that has to be confirmed is made again.
RECHECK_TIME = 1.0

#: Seconds.  An app that tries a dead host over and over must not cause as many
#: checks.
DOUBT_INTERVAL = 5.0

#: Seconds.  What was heard of a member so recently is new enough for the user.
FRESH = 1.0

#: Seconds.  Each probe costs the proxy an association for a moment.
DATAGRAMS_INTERVAL = 600.0

#: Share of the interval by which a check may be early or late, so that checks of
#: several upstreams and daemons spread out.
SPREAD = 0.2


class Watch:
    """
    Checks one member.

    @param members: is told of the outcomes.
    @param interval: seconds between two checks of an idle member.
    @param timeout: seconds for one connection.
    @param chance: C{random.random}.
    @param probes: whether to find out if the member carries UDP.
    """

    _log = Logger()

    def __init__(
        self,
        member: Member,
        members: Members,
        clock: IReactorTime,
        interval: float,
        timeout: float,
        chance: Callable[[], float],
        probes: bool = True,
    ) -> None:
        self._member = member
        self._members = members
        self._clock = clock
        self._interval = interval
        self._timeout = min(timeout, CHECK_TIMEOUT)
        self._chance = chance
        self._probes = probes
        self._first = True
        self._waiting: list[Deferred[None]] = []
        self._running = False
        self._checkedAt: float | None = None
        self._confirm = False
        self._check: Deferred[Any] | None = None
        self._probe: Deferred[Any] | None = None
        self._checkTimer = Timer(clock, self._due)
        self._probeTimer = Timer(clock, self._beginProbe)

    def start(self) -> None:
        """Check and probe now, and from now on."""
        self._running = True
        self._begin()
        self._beginProbe()

    def stop(self) -> None:
        """Cancel the check and the probe that are under way."""
        self._running = False
        self._checkTimer.cancel()
        self._probeTimer.cancel()
        for dial in (self._check, self._probe):
            if dial is not None:
                dial.cancel()

    def doubt(self) -> None:
        """Check soon: a flow's outcome says that something may be wrong."""
        now = self._clock.seconds()
        recent = self._checkedAt is not None and now - self._checkedAt < DOUBT_INTERVAL
        if self._running and self._member.healthy and not recent:
            self._begin()

    def refresh(self) -> Deferred[None]:
        """Fires once the member's health is known as of now; at once if it is not checked."""
        now, member = self._clock.seconds(), self._member
        heard = [at for at in (self._checkedAt, member.heardAt) if at is not None]
        if self._running and self._check is None and now - max(heard, default=-math.inf) >= FRESH:
            self._begin()
        if self._check is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def networkMoved(self) -> None:
        """
        Check now: the machine is in another network, and a member that could not be reached
        from the previous one may be well.
        """
        if self._running and not self._member.healthy:
            self._member.breaker.forgive(self._clock.seconds())
            if self._check is None:
                self._schedule()

    def changed(self) -> None:
        """The member went down or came back."""
        if self._running:
            if self._check is None:
                self._schedule()
            if self._member.healthy:
                self._beginProbe()

    def _schedule(self) -> None:
        breaker = self._member.breaker
        if breaker.state is BreakerState.OPEN:
            delay = max(0.0, breaker.retryAt - self._clock.seconds())
        elif breaker.state is BreakerState.HALF_OPEN or self._confirm:
            delay = RECHECK_TIME
        else:
            delay = self._interval * (1.0 + SPREAD * (2.0 * self._chance() - 1.0))
        self._checkTimer.start(delay)

    def _due(self) -> None:
        member = self._member
        heard, since = member.heardAt, self._clock.seconds() - self._interval
        if member.healthy and not self._confirm and heard is not None and heard > since:
            self._schedule()
        else:
            self._begin()

    def _begin(self) -> None:
        if self._check is not None:
            # A doubt began this check, which schedules the next one.
            return
        now = self._checkedAt = self._member.checkingSince = self._clock.seconds()
        self._member.breaker.checking(now)
        self._check = maybeDeferred(IHealthCheck(self._member.upstream).check).addTimeout(
            self._timeout, self._clock
        )
        self._check.addCallbacks(self._passed, self._failed)
        self._check.addBoth(self._checked)

    def _passed(self, result: object) -> None:
        self._confirm = False
        self._member.answered(check=True)
        # The faults that flows found in a healthy member are cleared only by a flow,
        # because a check tests less than a flow does.
        if not self._member.healthy:
            self._members.succeeded(self._member, check=True)
        if self._member.datagrams is None:
            self._beginProbe()

    def _failed(self, reason: Failure) -> None:
        if not self._running:
            reason.trap(CancelledError, UpstreamError)
        elif reason.check(ProxyError, UpstreamTimeout):
            self._fault(str(reason.value))
        elif reason.check(DeferredTimeout):
            name = self._member.name
            self._fault(f"The proxy {name} did not answer a check in {self._timeout:g} s.")
        elif reason.check(UpstreamError) is None:
            self._log.failure("Internal error in a check", failure=reason)

    def _fault(self, reason: str) -> None:
        self._confirm = True
        self._members.failed(self._member, reason, atOnce=self._first)

    def _checked(self, result: object) -> None:
        self._check = self._member.checkingSince = None
        self._first = False
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
        if self._running:
            self._schedule()

    def _beginProbe(self) -> None:
        if self._probe is not None or not self._probes:
            return
        probe = self._probe = maybeDeferred(self._member.upstream.associate, 4)
        probe.addTimeout(self._timeout, self._clock)
        probe.addCallbacks(self._carries, self._carriesNone)
        probe.addBoth(self._probed)

    def _carries(self, leg: DatagramLeg) -> None:
        self._member.datagrams = True
        os.close(leg.fd)
        if leg.control is not None:
            leg.control.close()

    def _carriesNone(self, reason: Failure) -> None:
        if not self._running:
            reason.trap(CancelledError, UpstreamError)
        elif reason.check(UpstreamError, DeferredTimeout):
            # Other errors may be temporary, so the next check is followed by a probe.
            self._member.datagrams = False if reason.check(DatagramsUnsupported) else None
            self._log.debug(
                "No UDP through {proxy}: {error}",
                proxy=self._member.name,
                error=str(reason.value),
            )
        else:
            self._log.failure("Internal error in a UDP probe", failure=reason)

    def _probed(self, result: object) -> None:
        self._probe = None
        if self._running:
            self._probeTimer.start(DATAGRAMS_INTERVAL)
