"""
The upstream behind an HTTP proxy, which may forbid CONNECT to port 80.

Squid as it is delivered does: whoever wants plain http is to send it requests.  Nothing
but such a proxy's answers tells of that rule, so when a CONNECT to port 80 is forbidden, a
trial follows: a CONNECT to port 443 of the same host, because a proxy with a list of hosts
refuses any other on all ports.  If the trial is not forbidden, the rule is about the port.
For L{RETRY} seconds from then on, legs to port 80 are connections to the proxy on which
nothing was asked, and the engine sends it the app's requests: L{PlainHttp}.

The log-in is learned in the trial too.  Squid looks at the port first, so its answer about
port 80 says nothing, and a proxy that has not asked for credentials does not get them:
tinyproxy passes them on to the web server.  A proxy may want them for some hosts only.  If
one that has not asked refuses a request for want of them, the next flow tries again, and
once it has asked it always gets them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, TimeoutError, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.errors import AuthenticationError, UpstreamError, UpstreamTimeout
from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Connection,
    DialEnd,
    DialPlan,
    IHandshake,
    PlainHttp,
    ProxyURL,
    UpstreamContext,
)
from nanotun.upstream.handshakes.http import checkHost
from nanotun.upstream.handshakes.httplogin import Digest, HttpLogin
from nanotun.upstream.plans.begun import Begun
from nanotun.upstream.proxy import Handshakes, ProxyUpstream

PORT = 80  #: Plain http, and the only port to which proxies want it sent like this.
TRIAL_PORT = 443  #: The port that a proxy which carries anything by CONNECT allows.

#: How proxies forbid: squid and tinyproxy with 403, others with 405.
FORBIDDING = (403, 405)

#: Answers of 500 and more that are about CONNECT itself; the others are about the way to
#: the destination, which is looked at once the rules are passed.
UNKNOWN = (501, 505)

#: Seconds after which a rule is asked for again.  It may change, and one round trip in ten
#: minutes costs nothing.
RETRY = 600.0

#: Seconds.  Rules are answered at once, so a proxy that is silent is connecting.
TRIAL_TIME = 2.0


class PortRule:
    """
    What is known of a proxy's rule about port 80.

    @ivar authorization: the value of C{Proxy-Authorization} for requests to it; empty until
        it has asked for one.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.authorization = b""
        self._clock = clock
        self._forbidden = False
        #: Until when that is believed.
        self._until = 0.0
        self._allowedUntil = 0.0

    def forbids(self) -> bool:
        """Whether there is no use in asking again soon."""
        return self._forbidden and self._clock.seconds() < self._until

    def allowed(self) -> bool:
        """A CONNECT to port 80 worked.  Returns whether this is news."""
        news, self._forbidden = self._forbidden, False
        self._allowedUntil = self._clock.seconds() + RETRY
        return news

    def forbidden(self, authorization: bytes) -> bool:
        """
        CONNECT to port 80 is forbidden.  A proxy that allows it for other hosts is asked
        each time: what is not http would be lost there.

        @return: whether this is news.
        """
        now = self._clock.seconds()
        if now < self._allowedUntil:
            return False
        news, self._forbidden = not self._forbidden, True
        self.authorization = authorization
        self._until = now + RETRY
        return news

    def doubt(self) -> None:
        """The proxy wants another log-in: ask again with the next flow."""
        self._until = 0.0


class PortTrial(NamedTuple):
    """
    What is needed to ask for port 443.

    @ivar login: the handshake's own, which sends nothing before the proxy asks; L{None} if
        we have no credentials.
    """

    handshake: IHandshake
    login: HttpLogin | None


class HttpUpstream(ProxyUpstream):
    """
    See the module.  The flow that finds the rule may take L{TRIAL_TIME} and one connect
    longer than the deadline.

    @param makeTrial: makes a trial for a destination.
    """

    _log = Logger()

    def __init__(
        self,
        url: ProxyURL,
        handshakes: Handshakes,
        context: UpstreamContext,
        makeTrial: Callable[[Endpoint], PortTrial],
    ) -> None:
        super().__init__(url, handshakes, context)
        self._makeTrial = makeTrial
        self._rule = PortRule(context.reactor)

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{nanotun.interfaces.IUpstream.connect}."""
        if destination.port != PORT:
            return super().connect(destination)
        if not self._rule.forbids():
            return (
                super()
                .connect(destination)
                .addCallbacks(self._allowed, self._refused, errbackArgs=(destination,))
            )
        try:
            checkHost(destination.host)
        except UpstreamError as error:
            return fail(error)
        return self._openPlain(self._rule.authorization)

    def plan(self, destination: Endpoint) -> DialPlan | None:
        """See L{nanotun.interfaces.IPlanned.plan}."""
        if destination.port == PORT and self._rule.forbids():
            return None
        return super().plan(destination)

    def _worked(self, begun: Begun, address: int) -> None:
        super()._worked(begun, address)
        if begun.destination.port == PORT:
            self._noteAllowed()

    def _resume(self, begun: Begun, end: DialEnd) -> Deferred[Connection]:
        opened = super()._resume(begun, end)
        if begun.destination.port == PORT:
            opened.addCallbacks(self._allowed, self._refused, errbackArgs=(begun.destination,))
        return opened

    def _allowed(self, connection: Connection) -> Connection:
        self._noteAllowed()
        return connection

    def _noteAllowed(self) -> None:
        if self._rule.allowed():
            self._log.info("The proxy {proxy} allows CONNECT to port 80 again.", proxy=self._name)

    def _refused(self, reason: Failure, destination: Endpoint) -> Any:
        """A CONNECT to port 80 failed."""
        error = reason.value
        if not isinstance(error, UpstreamError) or error.status not in FORBIDDING:
            return reason
        if self._rule.forbids():
            # Another flow has found it out meanwhile.
            return self._openPlain(self._rule.authorization)
        asked = Endpoint(destination.host, TRIAL_PORT)
        trial = self._makeTrial(asked)
        tried: Deferred[Any] = self._connector.open(self._addresses, trial.handshake, asked)
        tried.addTimeout(TRIAL_TIME, self._context.reactor)
        tried.addCallbacks(_close, _look, errbackArgs=(error,))
        return tried.addCallback(partial(self._settle, trial.login, error))

    def _settle(self, login: HttpLogin | None, first: UpstreamError, answered: bool) -> Any:
        """
        The trial was not forbidden.

        @param first: the error of the CONNECT to port 80.
        @param answered: whether the trial was answered, and the log-in is certain.
        """
        method = None if login is None else login.method
        forbids = f"The proxy {self._name} forbids CONNECT to port 80 (status {first.status})"
        if isinstance(method, Digest):
            # Its nonces are for one request each, or end in the middle of a connection.
            raise type(first)(
                f"{forbids} and wants a log-in by Digest, with which nanotun cannot send plain "
                "http; allow CONNECT to port 80 in the proxy's configuration, or let it offer "
                "Basic alone.",
                news=True,
                status=first.status,
            )
        authorization = self._rule.authorization
        if method is not None:
            authorization = method.authorize(b"GET", b"")
        certain = answered or login is None or method is not None
        before = self._rule.forbids()
        if certain and self._rule.forbidden(authorization):
            self._log.info(
                "{forbids}, so plain http is sent to it as requests to a proxy; other "
                "protocols on port 80 cannot pass.",
                forbids=forbids,
            )
        if self._rule.forbids() and not before:
            self._context.changed()
        return self._openPlain(authorization)

    def _openPlain(self, authorization: bytes) -> Deferred[Connection]:
        """
        Open a leg without a CONNECT.  Not from the pool: the app is accepted on it, so one
        that the proxy has just closed could not be replaced.
        """
        greet = self._handshakes.greet
        opened = self._connector.open(self._addresses, None if greet is None else greet())
        http = PlainHttp(self._name, authorization, self._rule.doubt)
        return opened.addCallback(lambda connection: connection._replace(http=http))


def _close(connection: Connection) -> bool:
    os.close(connection.fd)
    return True


def _look(reason: Failure, first: UpstreamError) -> bool:
    """
    What a failed trial says.

    @return: that it was not forbidden, and whether it was answered.
    @raise UpstreamError: there is no rule about the port, or the password is wrong.
    """
    error = reason.value
    if isinstance(error, AuthenticationError):
        raise error
    if isinstance(error, UpstreamError) and error.status:
        if error.status < 500 or error.status in UNKNOWN:
            raise first
        return True
    if isinstance(error, (TimeoutError, UpstreamTimeout)):
        return False
    # The app has given up, or it is a bug: not for us.
    if not isinstance(error, UpstreamError):
        reason.raiseException()
    raise first
