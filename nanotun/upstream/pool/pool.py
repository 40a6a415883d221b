"""
Connections to a proxy that wait for a destination: greeted and logged in, as far as
the scheme can go without one.  A flow then costs one round trip.

What the pool does::

    start                     dials until as many connections wait as are wanted
    one is taken              dials a new one
    one is too old            closes it and dials a new one
    the proxy ended one       dials a new one after a back-off, because some proxies end
                              every connection at once
    a dial failed             dials again after a back-off
    a request was lost        closes all, because the others may have ended as well, and
                              dials after a back-off
    the proxy dislikes them   closes all, logs a line, and tries again much later
    no flow came for long     no longer replaces connections that grow too old, until the
                              next flow

L{nanotun.upstream.pool.lifetimes} learns what the proxy likes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.errors import UpstreamError
from nanotun.interfaces import Connection, IHandshake
from nanotun.timer import Timer, backOff
from nanotun.upstream.dial.secure import Secure
from nanotun.upstream.pool.lifetimes import Lifetimes
from nanotun.upstream.pool.warm import WarmConnection, WarmEvent

#: Dials under way at a time: enough to keep up, at any distance, with a client that opens
#: one connection after another, and not a burst.
DIALS = 4

#: Seconds of the first back-off and of the longest.
BACKOFF_FIRST = 1.0
BACKOFF_LIMIT = 30.0

#: Seconds until a proxy that disliked the pool is tried again: the first time, and at
#: most.  A back-off too.
DISLIKED_FIRST = 600.0
DISLIKED_LIMIT = 7200.0

#: Seconds without a flow.  After that the machine counts as asleep, and connections that
#: no flow takes are not worth replacing.
REST_TIME = 300.0

#: Seconds in which the proxy's kernel has to acknowledge a request, and the largest share
#: of a dial's whole time that this may be.  If it does not, the route to the proxy has
#: probably changed since, and a new connection will use the new route.  Enough for two
#: losses on a slow line.
UNHEARD_TIME = 2.0
UNHEARD_SHARE = 0.25

#: The share of its life by which a connection may, by chance, be too old earlier, so
#: that connections opened together are not replaced together.
SPREAD = 0.25


class WarmPool(Service):
    """
    The waiting connections of one proxy.  There are none until it is started.

    @ivar idle: those that wait, oldest first.
    @ivar dialling: the dials under way.
    @ivar lifetimes: what has been learned about the proxy.
    @param proxy: its URL without the password.
    @param size: how many are to wait.
    @param timeout: seconds for one flow's connection.
    @param greet: makes the handshake for a new connection; L{None} if the scheme has
        none without a destination.
    @param dial: opens a connection and runs that handshake on it.
    @param chance: a number from 0 to 1, less than 1.
    @param secure: TLS, if the connections are inside.
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
        secure: Secure | None = None,
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
        self._secure = secure
        self.lifetimes = Lifetimes()
        self._usedAt = 0.0
        self._troubles = 0
        self._dislikes = 0
        self._backOff = backOff(BACKOFF_FIRST, BACKOFF_LIMIT, chance)
        self._offTime = backOff(DISLIKED_FIRST, DISLIKED_LIMIT, chance)
        self._pause = Timer(reactor, self.refill)
        self._expiry = Timer(reactor, self._expire)

    def startService(self) -> None:
        """Begin to dial."""
        super().startService()
        self._usedAt = self._reactor.seconds()
        self.refill()

    def stopService(self) -> None:
        """Close all connections; none can be taken any more."""
        super().stopService()
        self._pause.cancel()
        self._expiry.cancel()
        self._empty()

    def networkMoved(self) -> None:
        """
        Open new connections, without a back-off: the machine is in another network, and those
        that wait may lead nowhere.
        """
        if self.running:
            self._pause.cancel()
            self._troubles = 0
            self._empty()
            self.refill()

    def take(self) -> WarmConnection | None:
        """
        Take the oldest connection.

        @return: the connection, owned by the caller, who calls L{refill} after sending
            the request; or L{None} if none waits.
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
        """Dial for the connections that are missing, a few at a time."""
        if not self.running or self._pause.active:
            return
        if self._reactor.seconds() - self._usedAt >= REST_TIME:
            return
        while (
            len(self.dialling) < DIALS
            and len(self.idle) + len(self.dialling) < self._size
            # A dial that fails at once begins a back-off.
            and not self._pause.active
        ):
            self._dialOne()

    def _happened(self, warm: WarmConnection, event: WarmEvent) -> None:
        if event is WarmEvent.WORKED:
            self.lifetimes.worked()
            self._troubles = self._dislikes = 0
            return
        lost = event is WarmEvent.LOST
        if not lost:
            self.idle.remove(warm)
        now = self._reactor.seconds()
        self.lifetimes.ended(now - warm.since, now, lost)
        if self.lifetimes.disliked:
            self._turnOff()
            return
        self._wait()
        if lost:
            self._empty()

    def _dialOne(self) -> None:
        greeting = None if self._greet is None else self._greet()
        dial: Deferred[Any] = self._dial(greeting)
        self.dialling.add(dial)
        dial.addCallbacks(self._ready, self._failed, callbackArgs=(greeting,))
        dial.addBoth(self._dialled, dial)

    def _ready(self, connection: Connection, greeting: IHandshake | None) -> None:
        life = self.lifetimes.limit * (1.0 - SPREAD * self._chance())
        try:
            warm = WarmConnection(
                connection.fd,
                greeting,
                self._happened,
                self._reactor,
                life,
                self._unheard,
                self._secure,
            )
        except OSError:
            self._wait()
            return
        self.idle.append(warm)
        if not self._expiry.active:
            self._expiry.start(life)

    def _failed(self, reason: Failure) -> None:
        if reason.check(CancelledError):
            return
        if reason.check(UpstreamError):
            # Not logged: the dials of flows fail as well, and are.
            self.lifetimes.away()
        else:
            self._log.failure("Internal error in a dial for the pool", failure=reason)
        self._wait()

    def _dialled(self, result: object, dial: Deferred[Any]) -> None:
        self.dialling.discard(dial)
        self.refill()

    def _expire(self) -> None:
        """Close the connections that are too old."""
        now = self._reactor.seconds()
        for warm in [each for each in self.idle if each.until <= now]:
            self.idle.remove(warm)
            warm.close()
            self.lifetimes.lived(now)
            self._troubles = self._dislikes = 0
        if self.idle:
            first = min(warm.until for warm in self.idle)
            self._expiry.start(first - now)
        self.refill()

    def _wait(self) -> None:
        """Begin a back-off, unless there is one."""
        if not self._pause.active and self.running:
            self._pause.start(self._backOff(self._troubles))
            self._troubles += 1

    def _turnOff(self) -> None:
        delay = self._offTime(self._dislikes)
        self._pause.start(delay)
        self._empty()
        self.lifetimes.forget()
        line = self._log.debug if self._dislikes else self._log.warn
        line(
            "The proxy {proxy} ends connections that wait for a destination; upstreamPool is "
            "off, and tried again in {minutes} minutes. Set it to 0 if this comes back.",
            proxy=self._proxy,
            minutes=round(delay / 60),
        )
        self._dislikes += 1

    def _empty(self) -> None:
        """Cancel the dials and close the connections that wait."""
        for dial in list(self.dialling):
            dial.cancel()
        while self.idle:
            self.idle.pop().close()
