"""
C{dnsMode: fake-ip}: answers queries from the pool before the relay sees them, and tells the
router the names behind fake addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.addresses import DNS_PORT, GATEWAY4, isFake
from nanotun.config.settings import Settings
from nanotun.flow import Endpoint, Flow, Known, Protocol
from nanotun.gateway.dns.bootstrap import OwnLookup
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.lookup import Lookup, RealNames
from nanotun.gateway.dns.made import deny
from nanotun.gateway.dns.message import (
    HTTPS,
    LARGEST,
    NOERROR,
    NXDOMAIN,
    RCODE,
    SVCB,
    A,
    Query,
)
from nanotun.gateway.dns.nameservers import NameServers
from nanotun.gateway.dns.svcb import withoutHints
from nanotun.gateway.dns.trace import Trace
from nanotun.gateway.fakeip.answers import FakeAnswers, FakeQuestion
from nanotun.gateway.fakeip.asking import mayAsk, proxiedServers
from nanotun.gateway.fakeip.existence import ASKED_LIMIT, Existence
from nanotun.gateway.fakeip.pool import HOLD, SIZE, FakePool
from nanotun.gateway.fakeip.store import FakeStore
from nanotun.interfaces import INames
from nanotun.log.trouble import TroubleLog
from nanotun.policy.dnsnames import NamePolicy
from nanotun.timer import Timer

#: Seconds between two saves, each only if there is something new.  A full pool takes some 50 ms
#: to write.
SAVE_INTERVAL = 60.0

#: Names that one socket may ask for within L{HOLD} seconds, as long as they are in use; what it
#: asks for beyond that is answered by SERVFAIL.  Resolvers in programs ask from a new port each
#: time and come nowhere near it.
SOCKET_SHARE = SIZE // 16

#: The same for all programs of one user in one control group.
USER_SHARE = SIZE // 4

#: Numbers in use from which on that share matters.
PRESSED = SIZE // 4

#: Queries that wait until it is known whether their names exist: one for each family of the
#: names that are asked for at a time.
WAITING_LIMIT = 2 * ASKED_LIMIT


@implementer(IAnswering)
class FakeDns:
    """
    Answers the queries that L{FakeAnswers} has an answer to, and passes all others to the
    relay.  Whether a name exists is asked first where L{Existence} can.

    @param pool: that of C{answers}, with the shares of a socket and of a user.
    @param userOf: tells whose programs send a flow, as a sentence's subject; L{None} if that
        is not known.  It is asked where many numbers are in use, as it takes the kernel some
        0.1 ms.
    @ivar existence: asks nobody until L{configure}.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        answers: FakeAnswers,
        pool: FakePool,
        relay: IAnswering,
        userOf: Callable[[Flow], Hashable | None] = lambda flow: None,
    ) -> None:
        self._pool = pool
        self._userOf = userOf
        self.counters = relay.counters
        self._clock = clock
        self._answers = answers
        self._relay = relay
        self._trouble = TroubleLog(clock, self._log)
        self._lookup = OwnLookup(clock, ASKED_LIMIT)
        self.existence = Existence(clock, self._absent)
        # By client and query.
        self._waiting: dict[tuple[Hashable, bytes], Deferred[bool]] = {}

    def configure(
        self, settings: Settings, real: Collection[str], servers: NameServers, names: NamePolicy
    ) -> None:
        """
        Leave names to the servers, and ask whether others exist, as these settings say.

        @param real: see L{FakeAnswers.configure}.
        @param servers: those of the settings.
        @param names: what the settings say about names.
        """
        proxied = proxiedServers(settings)
        ask = None
        if proxied:
            # Nobody wants to hear of trouble with what they have not asked for.
            queries = servers.of(proxied, quiet=True)
            ask = partial(self._lookup.ask, kind=A, servers=queries)
        self.existence.configure(
            ask, mayAsk(settings, names, proxied), everyServer=proxied == settings.dns
        )
        # Last, because those who waited have just been answered by the settings of before.
        self._answers.configure(real, lambda name: bool(names.serversFor(name)))

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
        answer = self._answers.known(wire, self._clock.seconds())
        if answer is not None:
            self.counters.queries += 1
            self.counters.faked += 1
            if trace is not None:
                trace.stage = "fake"
            reply(answer)
            return True
        question = self._answers.read(wire)
        if question is None:
            return self._relay.query(wire, client, reply, overTCP, largest, trace)
        if self._isForServers(question):
            unhinted = partial(self._unhinted, wire, question.query, reply)
            return self._relay.query(wire, client, unhinted, overTCP, largest, trace)
        exists = self._exists(question) if question.faked else True
        if exists is not None or len(self._waiting) >= WAITING_LIMIT:
            self._give(exists is not False, wire, question, client, reply, trace)
            return True
        key = client, wire
        if key in self._waiting:
            return False
        found = self._waiting[key] = self.existence.find(question.name)
        found.addBoth(self._found, key, wire, question, client, reply, trace)
        found.addErrback(self._broke)
        return True

    def clear(self) -> None:
        """Forget which names exist, because the network has changed."""
        self.existence.clear()
        self._answers.forget()

    def stop(self) -> None:
        """Log what is held back; no client hears anything more."""
        self._trouble.stop()
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.cancel()
        self.existence.stop()
        self._lookup.stop()

    def _isForServers(self, question: FakeQuestion) -> bool:
        """Whether the servers are asked for a name's HTTPS or SVCB records."""
        if not question.faked or question.kind not in (HTTPS, SVCB):
            return False
        exists, name = self.existence, question.name
        return exists.mayRelay(name) and exists.known(name) is not False

    def _absent(self, name: str) -> None:
        """A name has turned out not to exist; it may have been given an address before."""
        if name in self._pool:
            self._answers.forget()

    def _exists(self, question: FakeQuestion) -> bool | None:
        """Whether a name exists; L{None} if its query waits for that."""
        name = question.name
        exists = self.existence.known(name)
        if exists is None and name in self._pool and not self.existence.wasAbsent(name):
            # Programs know its address already.
            self.existence.refresh(name)
            return True
        return exists

    def _found(
        self,
        exists: bool | Failure,
        key: tuple[Hashable, bytes],
        wire: bytes,
        question: FakeQuestion,
        client: Hashable,
        reply: Callable[[bytes], None],
        trace: Trace | None,
    ) -> None:
        if self._waiting.pop(key, None) is None:
            return  # Nobody waits any more.
        if isinstance(exists, Failure):
            exists.trap(CancelledError)
        else:
            self._give(exists, wire, question, client, reply, trace)

    def _unhinted(
        self, wire: bytes, query: Query, reply: Callable[[bytes], None], answer: bytes
    ) -> None:
        """Give the servers' answer to a query for HTTPS or SVCB without any address."""
        without = None
        if answer[3] & RCODE in (NOERROR, NXDOMAIN):
            without = withoutHints(answer, query)
        reply(deny(wire, query, NOERROR) if without is None else without)

    def _broke(self, reason: Failure) -> None:
        self._log.failure("A query is lost: internal error", failure=reason)

    def _give(
        self,
        exists: bool,
        wire: bytes,
        question: FakeQuestion,
        client: Hashable,
        reply: Callable[[bytes], None],
        trace: Trace | None,
    ) -> None:
        """Answer a query.  The answer has at most 310 bytes, which fit everywhere."""
        self.counters.queries += 1
        if not exists:
            self.counters.absent += 1
            if trace is not None:
                trace.stage = "absent"
            reply(deny(wire, question.query, NXDOMAIN))
            return
        self.counters.faked += 1
        refused = self._answers.refused
        clients = partial(self._clientsOf, client)
        answer = self._answers.answer(wire, question, self._clock.seconds(), clients)
        isRefused = self._answers.refused > refused
        if trace is not None:
            trace.stage = "limit" if isRefused else "fake"
        if isRefused:
            self.counters.fakesRefused += 1
            self._tell(clients())
        reply(answer)

    def _clientsOf(self, client: Hashable) -> tuple[Hashable, ...]:
        """Who is charged with a name: a socket, and perhaps a user."""
        source = socketOf(client)
        if self._pool.inUse < PRESSED or not source.port:
            return (source,)
        asked = getattr(client, "asked", None) or Endpoint(GATEWAY4, DNS_PORT)
        user = self._userOf(Flow(0, Protocol.UDP, source, asked))
        return (source,) if user is None else (source, user)

    def _tell(self, clients: tuple[Hashable, ...]) -> None:
        """A name has got no address."""
        client = self._pool.atShare(clients)
        if client is None:
            self._trouble.report(
                f"All {SIZE:,} fake addresses are in use, so names that are new get no answer "
                "until some are free. Look for programs that ask for a great many names."
            )
            return
        share, have, get = USER_SHARE, f"{client} have", "get"
        if isinstance(client, Endpoint):
            share, get = SOCKET_SHARE, "gets"
            have = f"The program at {client} has" if client.port else f"{client.host}, by TCP, has"
        self._trouble.report(
            f"{have} asked for {share:,} names within {HOLD:g} s and {get} no answer about new "
            "ones until some are free; others are not affected."
        )


def socketOf(client: Hashable) -> Endpoint:
    """
    What a client of the relay is charged as: its socket.

    @param client: has a C{host}; with a C{port} if it asks by UDP.  All connections of a host
        are one client, so that none is remembered after its end.
    """
    return Endpoint(getattr(client, "host", ""), getattr(client, "port", 0))


@implementer(INames)
class FakeIpNames:
    """
    The names behind the pool's addresses.  See L{INames}.

    @param store: keeps the pool's names from one run to the next.
    @param real: knows the names that get real addresses.
    @param flowHold: seconds that a name keeps its address after a flow has begun, because the
        end of some flows is not reported.
    """

    followsFlows = True

    def __init__(
        self,
        clock: Any,
        pool: FakePool,
        store: FakeStore,
        lookup: Lookup,
        real: RealNames,
        flowHold: float,
    ) -> None:
        self._real = real
        self._clock = clock
        self._pool = pool
        self._store = store
        self._lookup = lookup
        self._flowHold = max(flowHold, HOLD)
        self._timer = Timer(clock, self._save)

    def start(self) -> None:
        """Read the file and write it anew, now and whenever it has grown for a while."""
        self._store.load(self._pool, self._clock.seconds())
        # So that there is one to append to, and a file that cannot be written is told of now.
        self._store.save(self._pool, always=True)
        self._timer.start(SAVE_INTERVAL)

    def stop(self) -> None:
        """Write the file for the next run, unless L{start} was not called."""
        if self._timer.active:
            self._timer.cancel()
            self._store.save(self._pool)
            self._store.close()

    def isFake(self, host: str) -> bool:
        """See L{INames.isFake}."""
        return isFake(host)

    def nameOf(self, host: str) -> str | None:
        """See L{INames.nameOf}."""
        fake = self._pool.find(host)
        if fake is None:
            return None
        self._pool.hold(fake, self._clock.seconds(), self._flowHold)
        return fake.name

    def namesOf(self, flow: Flow) -> Known:
        """See L{INames.namesOf}."""
        host = flow.destination.host
        if not isFake(host):
            return self._real.namesOf(flow)
        name = self.nameOf(host)
        return Known() if name is None else Known((name,))

    def resolve(self, name: str, family: int) -> Deferred[list[str]]:
        """See L{INames.resolve}."""
        return self._lookup.resolve(name, family)

    def flowJoined(self, host: str) -> None:
        """See L{INames.flowJoined}."""
        self._pool.flowJoined(host)

    def flowClosed(self, host: str) -> None:
        """See L{INames.flowClosed}."""
        self._pool.flowClosed(host, self._clock.seconds())

    def _save(self) -> None:
        self._timer.start(SAVE_INTERVAL)
        self._store.save(self._pool)
