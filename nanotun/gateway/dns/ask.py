"""
Sends queries to the DNS servers of one list and tracks which of them answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nanotun.errors import UpstreamError
from nanotun.gateway.dns.addresses import isWithin, packName
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAttempt, INameServer
from nanotun.gateway.dns.message import Query
from nanotun.gateway.dns.servers import Servers
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.interfaces import DnsServer

#: Who has named the servers of a list: the setting C{dns}, a rule of C{dnsRules}, or the script.
OF_DNS, OF_RULE, OF_SCRIPT = "dns", "dnsRules", "script"

#: Seconds for which a server is known that is in the list no more: longer than any exchange takes.
LINGER = 10.0

#: What is said when none of them answers any more.
_NONE_ANSWERS = {
    OF_DNS: (
        "No server of dns answers{where} ({servers}), so DNS queries go unanswered; set dns to one "
        "that does."
    ),
    OF_RULE: (
        "No server of a rule in dnsRules answers{where} ({servers}), so DNS queries for its "
        "domains go unanswered; give the rule one that does."
    ),
    OF_SCRIPT: (
        "The DNS server {servers}, which the script names, does not answer{where}, so the queries "
        "that are sent there fail."
    ),
}


class ServerQueries:
    """
    DNS servers, as an exchange asks them.

    @param servers: in the order of the configuration, with what asks them; with none, every
        exchange ends without an answer.
    @param key: see C{key}.
    @param origin: who has named the servers; empty if nobody is told that they do not answer.
    @param look: called before each exchange; it may call L{replace}.
    @ivar key: told from that of other lists of servers, whose answer may be another one; empty
        for that of C{dns}.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        servers: Mapping[DnsServer, INameServer],
        counters: Counters,
        key: bytes = b"",
        origin: str = OF_DNS,
        look: Callable[[], object] | None = None,
    ) -> None:
        self.key = key
        self._clock = clock
        self._counters = counters
        self._origin = origin
        self._look = look
        self._listed: dict[DnsServer, INameServer] = {}
        # Those of before, and when they have left: some exchanges with them are about to end.
        self._former: dict[DnsServer, tuple[float, INameServer]] = {}
        self._zoned: dict[DnsServer, tuple[bytes, ...]] = {}
        self._servers = Servers((), random.random)
        self.replace(servers)

    def replace(
        self, servers: Mapping[DnsServer, INameServer], ofSystem: Collection[DnsServer] = ()
    ) -> None:
        """
        Ask these from now on; of what has been asked already, the answers count.

        @param ofSystem: those among them that C{system} stands for.  If they have domains, a
            query is for those of them whose domain is the longest that has its name.
        """
        now = self._clock.seconds()
        former = {each: left for each, left in self._former.items() if now - left[0] < LINGER}
        self._former = {**former, **{each: (now, asked) for each, asked in self._listed.items()}}
        self._listed = dict(servers)
        self._servers = Servers(tuple(servers), random.random)
        zoned = any(each.domains for each in ofSystem)
        self._zoned = {each: _packed(each) for each in ofSystem} if zoned else {}

    def order(self, query: Query) -> tuple[DnsServer, ...]:
        """The servers to ask for a query, the one to ask first at the front."""
        if self._look is not None:
            self._look()
        order = self._servers.order(self._clock.seconds())
        if not self._zoned:
            return order
        fits = {each: _fit(zones, query) for each, zones in self._zoned.items()}
        best = max(fits.values())
        return tuple(each for each in order if each not in fits or fits[each] == best >= 0)

    def ask(
        self,
        server: DnsServer,
        overTCP: bool,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> IAttempt:
        """Send a query to one of the servers; see L{INameServer.ask}."""
        asked = self._at(server)
        asked.tally.queries += 1
        return asked.ask(wire, query, overTCP, answered, failed)

    def tallyOf(self, server: DnsServer) -> ServerTally:
        """What has come of the queries to one of the servers."""
        tally: ServerTally = self._at(server).tally
        return tally

    def answered(self, server: DnsServer, answer: bytes, seconds: float) -> None:
        """
        A server has answered.

        @param seconds: since it was asked.
        """
        self.tallyOf(server).answered(answer, seconds)
        if server in self._listed and self._servers.answered(server, self._clock.seconds()):
            self._log.info("The DNS server {server} answers again.", server=server)

    def timedOut(self, server: DnsServer, waited: float, again: bool = False) -> None:
        """
        A server was silent.

        @param waited: seconds since it was asked, or since it was said to be silent.
        @param again: whether that was said of the same attempt before.
        """
        if not again:
            self._counters.timeouts += 1
            self.tallyOf(server).failed("")
        self._noteFailure(server, waited)

    def failed(self, server: DnsServer, error: OSError | UpstreamError | None) -> None:
        """
        A server refused the query, or could not be asked.

        @param error: why it could not be asked; L{None} if it refused.
        """
        self._counters.failures += 1
        self.tallyOf(server).failed(_sentence(server, error))
        if not isinstance(error, UpstreamError):
            self._noteFailure(server, 0)

    def askers(self) -> Iterable[INameServer]:
        """What asks the servers."""
        return self._listed.values()

    def down(self) -> list[ServerTally]:
        """The tallies of those that are asked last, because they do not answer."""
        return [self.tallyOf(each) for each in self._servers.down]

    def renew(self) -> None:
        """
        Begin anew, as the machine is in another network: which servers were silent says
        nothing about this one.
        """
        self._servers = Servers(tuple(self._listed), random.random)

    def _at(self, server: DnsServer) -> INameServer:
        """What asks a server, whether it is in the list or was when the exchange began."""
        return self._listed[server] if server in self._listed else self._former[server][1]

    def _noteFailure(self, server: DnsServer, waited: float) -> None:
        now = self._clock.seconds()
        if server not in self._listed or not self._servers.failed(server, now, now - waited):
            return
        if not self._origin:
            return
        where = self._listed[server].where
        if self._servers.noneAnswers:
            wheres = {each.where for each in self._listed.values()}
            # Where they differ, each server is told with its own.
            shared = where if len(wheres) == 1 else ""
            listed = ", ".join(
                f"{each}{'' if shared else asked.where}" for each, asked in self._listed.items()
            )
            self._log.error(_NONE_ANSWERS[self._origin], where=shared, servers=listed)
        else:
            self._log.warn(
                "The DNS server {server} does not answer{where}; it is asked last for a while.",
                server=server,
                where=where,
            )


def _packed(server: DnsServer) -> tuple[bytes, ...]:
    """A server's domains, as L{_fit} takes them."""
    return tuple(packName(domain)[:-1] for domain in server.domains)


def _fit(zones: tuple[bytes, ...], query: Query) -> int:
    """How well a server fits a query: the longer the domain, the better; -1 if it does not."""
    if not zones:
        return 0
    labels = query.question[:-5].lower()
    return max((len(zone) for zone in zones if isWithin(labels, zone)), default=-1)


def _sentence(server: DnsServer, error: OSError | UpstreamError | None) -> str:
    """What is known of a failure, or the empty text."""
    if isinstance(error, OSError) and error.strerror:
        return f"The DNS server {server} cannot be asked: {error.strerror}."
    return "" if error is None else str(error)
