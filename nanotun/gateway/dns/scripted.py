"""
Asks the user's script what to answer, before the relay or C{dnsMode: fake-ip} sees a query.

The script hears of every question that a server could be asked, whatever its name or its class
looks like: a server may well look the name up.  What nanotun looks up for itself is none of
those.  What the relay answers itself (updates, transfers, messages that are malformed) passes as
if there were no script.  A query without a question, of which the script cannot be asked, is
refused: a server would get all that is in it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.flow import Endpoint, ScriptReply
from nanotun.gateway.dns import made
from nanotun.gateway.dns.addresses import nameShown, readName
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.message import (
    HEADER_SIZE,
    IN,
    LARGEST,
    OPCODE,
    REFUSED,
    SERVFAIL,
    Query,
    WireError,
    errorReply,
    isTransfer,
    readQuery,
)
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.dns.trace import Trace
from nanotun.gateway.dns.types import typeText
from nanotun.interfaces import IScript
from nanotun.script import Query as ScriptQuery

#: Queries that wait for the script: as many of its coroutines may run.
WAITING_LIMIT = 1000

_COUNTS = struct.Struct("!HH")


@implementer(IAnswering)
class ScriptedDns:
    """
    See the module.

    @param behind: answers what the script leaves to it.
    @param relay: asks the servers that the script names.
    @param serversAt: the queries to a server.
    """

    _log = Logger()

    def __init__(
        self,
        behind: IAnswering,
        relay: DnsRelay,
        serversAt: Callable[[Endpoint], ServerQueries],
    ) -> None:
        self.counters = relay.counters
        self._behind = behind
        self._relay = relay
        self._serversAt = serversAt
        self._script: IScript | None = None
        # By client and query.
        self._waiting: dict[tuple[Hashable, bytes], Deferred[ScriptReply]] = {}

    def configure(self, script: IScript | None) -> None:
        """Ask another script from now on, or none.  Answers that are awaited still count."""
        self._script = script

    def stop(self) -> None:
        """Give up the queries that wait for the script; no client hears anything more."""
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.cancel()

    def query(
        self,
        wire: bytes,
        client: Hashable,
        reply: Callable[[bytes], None],
        overTCP: bool = False,
        largest: int = LARGEST,
        trace: Trace | None = None,
    ) -> bool:
        """See L{IAnswering.query}."""
        script = self._script
        asked = None
        if script is not None and script.answersQueries:
            asked = _read(wire, client, overTCP)
        if script is None or asked is None:
            return self._behind.query(wire, client, reply, overTCP, largest, trace)
        key = client, wire
        if key in self._waiting:
            return False
        query, about = asked

        def give(found: ScriptReply) -> bool:
            return self._give(found, wire, query, client, reply, overTCP, largest, trace)

        if about is None:
            return give(ScriptReply(refused=True))
        if len(self._waiting) >= WAITING_LIMIT:
            self.counters.queries += 1
            self.counters.limited += 1
            if trace is not None:
                trace.stage = "limit"
            reply(errorReply(wire, query, SERVFAIL))
            return True
        answer = script.query(about)
        if isinstance(answer, ScriptReply):
            return give(answer)
        self._waiting[key] = answer
        answer.addBoth(self._arrived, key, give)
        answer.addErrback(self._broke)
        return True

    def _arrived(
        self,
        found: ScriptReply | Failure,
        key: tuple[Hashable, bytes],
        give: Callable[[ScriptReply], bool],
    ) -> None:
        if self._waiting.pop(key, None) is None:
            return  # Nobody waits any more.
        if isinstance(found, Failure):
            found.trap(CancelledError)
        else:
            give(found)

    def _broke(self, reason: Failure) -> None:
        self._log.failure("A query is lost: internal error", failure=reason)

    def _give(
        self,
        found: ScriptReply,
        wire: bytes,
        query: Query,
        client: Hashable,
        reply: Callable[[bytes], None],
        overTCP: bool,
        largest: int,
        trace: Trace | None,
    ) -> bool:
        """Do what the script says; see L{IAnswering.query}."""
        if found.server:
            self.counters.scripted += 1
            servers = self._serversAt(_endpoint(found.server))
            return self._relay.query(wire, client, reply, overTCP, largest, trace, servers)
        if found.refused:
            answer = errorReply(wire, query, REFUSED)
        elif found.addresses is not None:
            answer = made.addresses(found.addresses, wire, query)
        else:
            return self._behind.query(wire, client, reply, overTCP, largest, trace)
        if trace is not None:
            trace.stage = "script"
        self.counters.queries += 1
        self.counters.scripted += 1
        self._relay.give(wire, query, answer, reply, overTCP, largest)
        return True


def _read(wire: bytes, client: Hashable, overTCP: bool) -> tuple[Query, ScriptQuery | None] | None:
    """
    A query, and what a script sees of it; L{None} if that is nothing.

    @return: L{None} if no server is asked.
    """
    try:
        query = readQuery(wire)
        if query.flags & OPCODE or isTransfer(query):
            return None
        if not query.question:
            return query, None
        kind, klass = _COUNTS.unpack(query.question[-4:])
        name = nameShown(readName(wire, HEADER_SIZE))
    except WireError:
        return None
    host = str(getattr(client, "host", ""))
    protocol = "tcp" if overTCP else "udp"
    what = typeText(kind)
    # As in RFC 3597, section 5.
    return query, ScriptQuery(name, what if klass == IN else f"CLASS{klass} {what}", host, protocol)


def _endpoint(server: str) -> Endpoint:
    """The server that a script names, in its canonical form: C{udp://[fd00::1]:53}."""
    host, _, port = server.partition("://")[2].rpartition(":")
    return Endpoint(host.strip("[]"), int(port))
