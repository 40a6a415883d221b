"""
Connections to a proxy that wait for a destination: greeted and logged in, as far as
the scheme goes without one.  A flow then costs one round trip.

What the pool does::

    start           dials, until as many wait as are wanted
    one is taken    dials for it
    one is too old  closed, and dialled for
    one ended       dialled for, after a back-off: a proxy that ends them at once must
                    not be dialled without end
    dial failed     a back-off
    a request was   closes all, for their ends are as unseen; a back-off
      lost
    disliked        closes all, says so, and tries again much later
    nobody took     those that grow too old are not replaced until one is asked for
      one for long

What the proxy likes, L{nanotun.upstream.pool.lifetimes} knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.errors import UpstreamError
from nanotun.interfaces import Connection, IHandshake
from nanotun.upstream.pool.lifetimes import Lifetimes
from nanotun.upstream.pool.warm import WarmConnection

#: Dials under way at a time: enough to replace, at any distance, what a client takes
#: that opens one connection after another, and no burst.
DIALS = 4

#: Seconds of the first back-off and the longest.  Each is twice the one before;
#: what counts is between half of it and all, so that many clients of a proxy that
#: restarts do not come back together.
BACKOFF_FIRST = 1.0
BACKOFF_LIMIT = 30.0

#: Seconds until a proxy that disliked the pool is tried again, at first and at
#: most.  Counted like the back-off.
DISLIKED_FIRST = 600.0
DISLIKED_LIMIT = 7200.0

#: Seconds without a flow after which a machine is asleep, and connections that
#: nobody takes are not worth replacing.
REST_TIME = 300.0

#: Seconds in which the proxy's kernel has to acknowledge a request, and the most of a
#: connection's whole time that they may be.  Where it does not, the way there has
#: changed since, and a new connection finds the new one.  Enough for two losses on a
#: slow line.
UNHEARD_TIME = 2.0
UNHEARD_SHARE = 0.25

#: Of its life, how much earlier a connection may be too old, by chance: what was
#: opened together is not to be replaced together.
SPREAD = 0.25


class WarmPool(Service):
    """
    The connections of one proxy.  Without being started there are none.

    @ivar idle: those that wait, oldest first.
    @ivar dialling: the dials under way.
    @param proxy: its URL without the password.
    @param size: how many are to wait.
    @param timeout: seconds for one flow's connection.
    @param greet: makes what is done on a connection first; L{None} if nothing is.
    @param dial: opens a connection and does that on it.
    @param chance: a number from 0 to 1, less than 1.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        proxy: str,
        size: int,
        timeout: float,
        greet: Callable[[], IHandshake] | None,
        dial: Callable[[IHandshake | None], Deferred[Connection]],
        chance: Callable[[], float] = random,
    ) -> None:
        self.idle: deque[WarmConnection] = deque()
        self.dialling: set[Deferred[Any]] = set()
        self._reactor = reactor
        self._proxy = proxy
        self._size = size
        self._unheard = min(UNHEARD_TIME, UNHEARD_SHARE * timeout)
        self._greet = greet
        self._dial = dial
        self._chance = chance
        self._lifetimes = Lifetimes()
        self._usedAt = 0.0
        self._troubles = 0
        self._dislikes = 0
        self._pause: IDelayedCall | None = None
        self._expiry: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin to fill it."""
        super().startService()
        self._usedAt = self._reactor.seconds()
        self.refill()

    def stopService(self) -> None:
        """Close all; nothing can be taken any more."""
        super().stopService()
        self._stopTimers()
        self._empty()

    def take(self) -> WarmConnection | None:
        """
        The oldest connection, or L{None} if there is none; the caller owns it and
        calls L{refill} when its own work is done.
        """
        now = self._usedAt = self._reactor.seconds()
        while self.idle:
            warm = self.idle.popleft()
            if now < warm.until:
                warm.lend()
                return warm
            warm.close()
        return None

    def refill(self) -> None:
        """Dial for what is missing, a few at a time."""
        if not self.running or self._pause is not None:
            return
        if self._reactor.seconds() - self._usedAt >= REST_TIME:
            return
        while (
            len(self.dialling) < DIALS
            and len(self.idle) + len(self.dialling) < self._size
            # A dial may fail at once.
            and self._pause is None
        ):
            self._dialOne()

    # What becomes of connections; see nanotun.upstream.pool.warm.Owner.

    def ended(self, warm: WarmConnection) -> None:
        """See L{nanotun.upstream.pool.warm.Owner.ended}."""
        self.idle.remove(warm)
        self._ended(warm)

    def worked(self, warm: WarmConnection) -> None:
        """See L{nanotun.upstream.pool.warm.Owner.worked}."""
        self._lifetimes.worked()
        self._troubles = self._dislikes = 0

    def lost(self, warm: WarmConnection) -> None:
        """See L{nanotun.upstream.pool.warm.Owner.lost}."""
        self._ended(warm, True)

    def _ended(self, warm: WarmConnection, lost: bool = False) -> None:
        now = self._reactor.seconds()
        self._lifetimes.ended(now - warm.since, now, lost)
        if self._lifetimes.disliked:
            self._turnOff()
            return
        self._backOff()
        if lost:
            self._empty()

    def _dialOne(self) -> None:
        greeting = None if self._greet is None else self._greet()
        dial: Deferred[Any] = self._dial(greeting)
        self.dialling.add(dial)
        dial.addCallbacks(self._ready, self._failed, callbackArgs=(greeting,))
        dial.addBoth(self._dialled, dial)

    def _ready(self, connection: Connection, greeting: IHandshake | None) -> None:
        life = self._lifetimes.limit * (1.0 - SPREAD * self._chance())
        try:
            warm = WarmConnection(connection.fd, greeting, self, self._reactor, life, self._unheard)
        except OSError:
            self._backOff()
            return
        self.idle.append(warm)
        if self._expiry is None:
            self._expiry = self._reactor.callLater(life, self._expire)

    def _failed(self, reason: Failure) -> None:
        if reason.check(CancelledError):
            return
        if reason.check(UpstreamError):
            # The flows' own dials fail too, and say so.
            self._lifetimes.away()
        else:
            self._log.failure("A dial for the pool failed by a mistake of ours", failure=reason)
        self._backOff()

    def _dialled(self, result: object, dial: Deferred[Any]) -> None:
        self.dialling.discard(dial)
        self.refill()

    def _expire(self) -> None:
        """The timer: some may be too old."""
        self._expiry = None
        now = self._reactor.seconds()
        for warm in [each for each in self.idle if each.until <= now]:
            self.idle.remove(warm)
            warm.close()
            self._lifetimes.lived(now)
            self._troubles = self._dislikes = 0
        if self.idle:
            first = min(warm.until for warm in self.idle)
            self._expiry = self._reactor.callLater(first - now, self._expire)
        self.refill()

    def _backOff(self) -> None:
        if self._pause is None and self.running:
            self._pauseFor(BACKOFF_FIRST, BACKOFF_LIMIT, self._troubles)
            self._troubles += 1

    def _turnOff(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        delay = self._pauseFor(DISLIKED_FIRST, DISLIKED_LIMIT, self._dislikes)
        self._empty()
        self._lifetimes.forget()
        line = self._log.debug if self._dislikes else self._log.warn
        line(
            "The proxy {proxy} ends connections that wait for a destination; upstreamPool is "
            "off, and tried again in {minutes} minutes. Set it to 0 if this comes back.",
            proxy=self._proxy,
            minutes=round(delay / 60),
        )
        self._dislikes += 1

    def _pauseFor(self, first: float, limit: float, times: int) -> float:
        # The exponent is bounded as well: a proxy may be away for years.
        whole: float = min(limit, first * 2.0 ** min(times, 16))
        delay = whole * (1.0 + self._chance()) / 2.0
        self._pause = self._reactor.callLater(delay, self._paused)
        return delay

    def _paused(self) -> None:
        self._pause = None
        self.refill()

    def _empty(self) -> None:
        """Close those that wait, and give up those that would."""
        for dial in list(self.dialling):
            dial.cancel()
        while self.idle:
            self.idle.pop().close()

    def _stopTimers(self) -> None:
        for timer in (self._pause, self._expiry):
            if timer is not None:
                timer.cancel()
        self._pause = self._expiry = None
