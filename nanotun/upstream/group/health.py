"""
Looks after one upstream of a group by handshakes that nobody else waits for.

What is done next::

    the member is       after
    healthy             the interval, give or take; nothing if a flow's handshake
                        went through meanwhile
    healthy, but the    RECHECK_TIME
      last check failed
    down                its breaker's back-off
    half open           RECHECK_TIME
    in doubt            at once, but not sooner than DOUBT_INTERVAL after the last

Whether it carries UDP is asked by opening a relay for real: at the start, when it
is back, after a check while it is not known, and every DATAGRAMS_INTERVAL.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.errors import DatagramsUnsupported, ProxyError, UpstreamError, UpstreamTimeout
from nanotun.interfaces import DatagramLeg, IHealthCheck
from nanotun.upstream.group.breaker import State
from nanotun.upstream.group.members import Member, Members

#: Seconds for one check, and no more than a connection may take.
CHECK_TIMEOUT = 4.0

#: Seconds until a check that wants to be confirmed is made again.
RECHECK_TIME = 1.0

#: Seconds.  An app that tries a dead host without end must not become as many
#: checks.
DOUBT_INTERVAL = 5.0

#: Seconds.  Each costs the proxy a relay for a moment.
DATAGRAMS_INTERVAL = 600.0

#: Share of the interval by which checks are moved, so that they spread.
SPREAD = 0.2


class Watch:
    """
    Looks after one member.

    @param members: hears of the outcomes.
    @param interval: seconds between two checks of an idle one.
    @param timeout: seconds for one connection.
    @param chance: C{random.random}.
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
    ) -> None:
        self._member = member
        self._members = members
        self._clock = clock
        self._interval = interval
        self._timeout = min(timeout, CHECK_TIMEOUT)
        self._chance = chance
        self._running = False
        self._checkedAt: float | None = None
        self._confirm = False
        self._check: Deferred[Any] | None = None
        self._probe: Deferred[Any] | None = None
        self._checkTimer: IDelayedCall | None = None
        self._probeTimer: IDelayedCall | None = None

    def start(self) -> None:
        """Check now, and go on."""
        self._running = True
        self._begin()
        self._beginProbe()

    def stop(self) -> None:
        """Give up what is under way."""
        self._running = False
        for timer in (self._checkTimer, self._probeTimer):
            if timer is not None and timer.active():
                timer.cancel()
        for asked in (self._check, self._probe):
            if asked is not None:
                asked.cancel()

    def doubt(self) -> None:
        """A flow's outcome says that something may be wrong."""
        now = self._clock.seconds()
        recent = self._checkedAt is not None and now - self._checkedAt < DOUBT_INTERVAL
        if self._running and self._member.healthy and not recent:
            self._begin()

    def changed(self) -> None:
        """The member went down or came back."""
        if self._running:
            if self._check is None:
                self._schedule()
            if self._member.healthy:
                self._beginProbe()

    def _schedule(self) -> None:
        breaker = self._member.breaker
        if breaker.state is State.OPEN:
            delay = max(0.0, breaker.retryAt - self._clock.seconds())
        elif breaker.state is State.HALF_OPEN or self._confirm:
            delay = RECHECK_TIME
        else:
            delay = self._interval * (1.0 + SPREAD * (2.0 * self._chance() - 1.0))
        self._checkTimer = self._again(self._checkTimer, delay, self._due)

    def _due(self) -> None:
        member = self._member
        heard, since = member.heardAt, self._clock.seconds() - self._interval
        if member.healthy and not self._confirm and heard is not None and heard > since:
            self._schedule()
        else:
            self._begin()

    def _begin(self) -> None:
        if self._check is not None:
            # Begun by a doubt; it schedules the next one.
            return
        now = self._checkedAt = self._clock.seconds()
        self._member.breaker.checking(now)
        self._check = (
            IHealthCheck(self._member.upstream).check().addTimeout(self._timeout, self._clock)
        )
        self._check.addCallbacks(self._passed, self._failed)
        self._check.addBoth(self._checked)

    def _passed(self, result: object) -> None:
        self._confirm = False
        # What flows found wrong with a healthy one stands until a flow finds it
        # right: a check does not go as far as a flow.
        if not self._member.healthy:
            self._members.succeeded(self._member)
        if self._member.datagrams is None:
            self._beginProbe()

    def _failed(self, reason: Failure) -> None:
        if not self._running:
            reason.trap(CancelledError, UpstreamError)
        elif reason.check(ProxyError, UpstreamTimeout):
            self._confirm = True
            self._members.failed(self._member, str(reason.value))
        elif reason.check(DeferredTimeout):
            self._confirm = True
            name = self._member.name
            self._members.failed(
                self._member, f"The proxy {name} did not answer a check in {self._timeout:g} s."
            )
        elif reason.check(UpstreamError) is None:
            self._log.failure("A check failed by a mistake of ours", failure=reason)

    def _checked(self, result: object) -> None:
        self._check = None
        if self._running:
            self._schedule()

    def _beginProbe(self) -> None:
        if self._probe is not None:
            return
        probe = self._probe = self._member.upstream.associate(4)
        probe.addTimeout(self._timeout, self._clock)
        probe.addCallbacks(self._carries, self._carriesNot)
        probe.addBoth(self._probed)

    def _carries(self, leg: DatagramLeg) -> None:
        self._member.datagrams = True
        os.close(leg.fd)
        if leg.control is not None:
            leg.control.close()

    def _carriesNot(self, reason: Failure) -> None:
        if not self._running:
            reason.trap(CancelledError, UpstreamError)
        elif reason.check(UpstreamError, DeferredTimeout):
            # Other errors may pass, and it is asked again after the next check.
            self._member.datagrams = False if reason.check(DatagramsUnsupported) else None
            self._log.debug(
                "No UDP by {proxy}: {error}", proxy=self._member.name, error=str(reason.value)
            )
        else:
            self._log.failure("A probe of UDP failed by a mistake of ours", failure=reason)

    def _probed(self, result: object) -> None:
        self._probe = None
        if self._running:
            self._probeTimer = self._again(self._probeTimer, DATAGRAMS_INTERVAL, self._beginProbe)

    def _again(
        self, timer: IDelayedCall | None, delay: float, call: Callable[[], None]
    ) -> IDelayedCall:
        if timer is not None and timer.active():
            timer.cancel()
        return self._clock.callLater(delay, call)
