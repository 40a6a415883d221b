"""
Whether a proxy's UDP relay takes names (RFC 1928, section 5: ATYP 3), found out by a probe.

A relay that takes none says nothing, and neither does one for a name that does not exist,
so neither an app's datagrams nor any name of an app's tell.  The probe is a DNS query to a
server of C{dns}, addressed by a name that cannot fail to be looked up: the server's address
as text.  If that is not answered, the same query is sent by address, on an association of
its own, because the first may be spoilt::

    by name    by address    the relay
    answered                 takes names
    silent     answered      takes none
    silent     silent        cannot be told; the next server is asked

No loss makes a yes of a no, and only losses in a row a no of a yes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    TimeoutError,
    inlineCallbacks,
    succeed,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.flow import Endpoint
from nanotun.interfaces import DatagramLeg, wrapDatagram
from nanotun.upstream.datagramtrial import DatagramTrial, dnsQuery, isDnsAnswer, payloadOf

#: Seconds between two attempts at one question, as datagrams get lost, and how many there
#: are.  An app's datagrams wait for as long.
RETRY = 0.5
TRIES = 3

#: How many servers are asked, one after the other.
SERVERS = 2

#: Seconds after which the proxy is asked again.  A relay that takes names may be replaced, one
#: that takes none may be configured anew, and where nothing answered the network may just not
#: have been there.
RECHECK = {True: 3600.0, False: 600.0, None: 60.0}


class RelayNames:
    """
    What is known of one proxy.

    @ivar known: whether its UDP relay takes names; L{None} if it was not asked yet, or if it
        could not be told.
    @param proxy: its URL without the password.
    @param servers: DNS servers that it may be asked to reach.
    @param openLeg: opens an association, given a family.
    """

    _log = Logger()

    def __init__(
        self,
        proxy: str,
        reactor: Any,
        servers: Sequence[Endpoint],
        openLeg: Callable[[int], Deferred[DatagramLeg]],
    ) -> None:
        self.known: bool | None = None
        self._proxy = proxy
        self._reactor = reactor
        self._servers = servers[:SERVERS]
        self._openLeg = openLeg
        self._until = 0.0
        self._waiting: list[Deferred[bool]] = []
        self._probing: Deferred[None] | None = None
        self._began = 0.0
        # What the log has said last; nothing needs to be said of a yes.
        self._told: bool | None = True

    def ask(self) -> Deferred[bool]:
        """
        Find out, unless it is known.  There is one probe for all who wait.

        @return: fires with whether the UDP relay is known to take names; fails with the
            L{nanotun.errors.UpstreamError} of an association.
        """
        if self._reactor.seconds() < self._until:
            return succeed(self.known is True)
        waiter: Deferred[bool] = Deferred(self._cancelled)
        self._waiting.append(waiter)
        if len(self._waiting) == 1:
            self._began = self._reactor.seconds()
            probing = self._probing = self._probe()
            probing.addCallbacks(self._found, self._failed)
        return waiter

    def _cancelled(self, waiter: Deferred[bool]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            if not self._waiting and self._probing is not None:
                now = self._reactor.seconds()
                if now - self._began >= RETRY * TRIES:
                    # Whoever asks next could not wait for longer either.
                    self.known = None
                    self._until = now + RECHECK[None]
                self._probing.cancel()

    @inlineCallbacks
    def _probe(self) -> Any:
        for server in self._servers:
            for named in (True, False):
                if (yield self._answers(server, named)):
                    return named
        return None

    @inlineCallbacks
    def _answers(self, server: Endpoint, named: bool) -> Any:
        """Whether a server answers a query that is addressed in one of the two ways."""
        leg: DatagramLeg = yield self._openLeg(6 if ":" in server.host else 4)
        ident = int.from_bytes(os.urandom(2), "big")
        query = wrapDatagram(server, dnsQuery(ident), named)
        isAnswer = isDnsAnswer(ident)
        trial = DatagramTrial(
            self._reactor,
            socket.socket(fileno=leg.fd),
            query,
            lambda data: isAnswer(payloadOf(data)),
            RETRY,
            TRIES,
        )
        try:
            asked = trial.start()
            if leg.control is not None:
                # A proxy that ends it has not understood the query, or is gone.
                leg.control.watch(lambda sentence: trial.giveUp())
            yield asked
        except (OSError, TimeoutError):
            return False
        finally:
            if leg.control is not None:
                leg.control.close()
        return True

    def _found(self, known: bool | None) -> None:
        self._probing = None
        self.known = known
        self._until = self._reactor.seconds() + RECHECK[known]
        self._tell()
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(known is True)

    def _failed(self, reason: Failure) -> None:
        self._probing = None
        waiting, self._waiting = self._waiting, []
        if not waiting:
            # Nobody waits any more.
            reason.trap(CancelledError)
        for waiter in waiting:
            waiter.errback(reason)

    def _tell(self) -> None:
        known = self.known
        if known is self._told:
            return
        self._told = known
        if known:
            self._log.info(
                "The UDP relay of the proxy {proxy} takes host names now.", proxy=self._proxy
            )
        elif known is None:
            self._log.warn(
                "It cannot be told whether the UDP relay of the proxy {proxy} takes host names: "
                "{servers} answers through it neither by name nor by address. Until it can, "
                "nanotun looks up the names of UDP destinations itself, as dnsVia says.",
                proxy=self._proxy,
                servers=" or ".join(str(server) for server in self._servers) or "no server of dns",
            )
        else:
            self._log.warn(
                "The UDP relay of the proxy {proxy} takes no host names, so nanotun looks up the "
                "names of UDP destinations itself, as dnsVia says.",
                proxy=self._proxy,
            )
