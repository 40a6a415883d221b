"""
The DNS servers of one configuration, each with what asks it.

There is one object, and so one connection, for each server and the upstream it is asked through,
whichever lists it is in.  It is made when it is needed, and all of them are stopped together.
"""

from __future__ import annotations

import hashlib
import socket
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from nanotun.config.askedservers import bootstrapsOf, goesBare, serversOf, through, viaOf
from nanotun.config.settings import Settings
from nanotun.gateway.dns.ask import OF_DNS, OF_RULE, OF_SCRIPT, ServerQueries
from nanotun.gateway.dns.association import QueryAssociations
from nanotun.gateway.dns.bootstrap import OwnLookup, ServerAddresses
from nanotun.gateway.dns.contexts import TlsContexts, keyOf
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.direct import DirectServer, makeIdent
from nanotun.gateway.dns.interfaces import INameServer
from nanotun.gateway.dns.proxied import UpstreamServer, couldFake
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.streamed import StreamServer
from nanotun.gateway.dns.troubles import Troubles
from nanotun.interfaces import DnsServer, IUpstream
from nanotun.interfaces.nameserver import ENCRYPTED

#: Servers that only the script names, to which connections may be open at a time.
NAMED_LIMIT = 16

#: What tells the exchanges of a list of servers from those of other lists, in bytes.
KEY_SIZE = 8


def noSystem() -> tuple[DnsServer, ...]:
    """The servers of a machine that has none."""
    return ()


class _Wanted(NamedTuple):
    """
    A list of servers; see L{NameServers.of}.
    """

    servers: tuple[DnsServer, ...]
    direct: bool = False
    quiet: bool = False
    keep: Callable[[DnsServer], bool] | None = None

    @property
    def hasSystem(self) -> bool:
        return any(each.scheme == "system" for each in self.servers)

    def key(self, origin: str) -> bytes:
        """As long as the list is the same, so is this, also after a reload."""
        return hashlib.blake2b(repr((origin, self)).encode(), digest_size=KEY_SIZE).digest()


class _Askers:
    """
    What asks the servers, made when it is needed.

    @param make: makes what asks a server.
    @param counters: count what is sent.
    """

    def __init__(
        self,
        make: Callable[[DnsServer, _Askers, _Wanted], INameServer],
        counters: Counters,
        report: Callable[[str], None],
        tallyOf: Callable[[DnsServer], ServerTally],
        associations: Callable[[str], QueryAssociations],
    ) -> None:
        self._make = make
        self.counters = counters
        self.report = report
        self.tallyOf = tallyOf
        self._associations = associations
        self._byServer: dict[DnsServer, INameServer] = {}
        self._byWay: dict[str, QueryAssociations] = {}

    def __iter__(self) -> Iterator[DnsServer]:
        return iter(self._byServer)

    def at(self, server: DnsServer, wanted: _Wanted) -> INameServer:
        """
        What asks a server.

        @param server: its C{via} is not empty.
        @param wanted: the list that it is in.
        """
        found = self._byServer.get(server)
        if found is None:
            found = self._byServer[server] = self._make(server, self, wanted)
        return found

    def datagramsBy(self, via: str) -> QueryAssociations:
        """The associations of an upstream."""
        found = self._byWay.get(via)
        if found is None:
            found = self._byWay[via] = self._associations(via)
        return found

    def keep(self, used: Collection[INameServer]) -> None:
        """Let go of all but some."""
        for server, asked in list(self._byServer.items()):
            if asked not in used:
                del self._byServer[server]
                asked.stop()

    def renew(self) -> None:
        """See L{INameServer.renew}."""
        for associations in self._byWay.values():
            associations.renew()
        for asked in self._byServer.values():
            asked.renew()

    def stop(self) -> None:
        """See L{INameServer.stop}."""
        for associations in self._byWay.values():
            associations.stop()
        for asked in self._byServer.values():
            asked.stop()


class NameServers:
    """
    See the module.

    @param ways: gives the present upstream of a name; raises L{UpstreamError} if that must not be
        used any more.
    @param contexts: how TLS is spoken with the servers; has all that are encrypted.
    @param before: the tallies of the configuration before this one; those of servers that stay
        are kept.
    @param makeDatagram: address family to a non-blocking UDP socket, marked.
    @param report: is given a sentence for the user when a query cannot be sent.
    @param system: gives the servers that C{system} stands for; called before each exchange
        with one of them, and calls L{systemChanged} if they are others than before.
    @ivar tallies: what has come of the queries, by server; its C{via} is never empty.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        ways: Callable[[str], IUpstream],
        contexts: TlsContexts,
        counters: Counters,
        before: Mapping[DnsServer, ServerTally],
        makeDatagram: Callable[[int], socket.socket],
        report: Callable[[str], None],
        system: Callable[[], tuple[DnsServer, ...]] = noSystem,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._ways = ways
        self._contexts = contexts
        self._before = before
        self._makeDatagram = makeDatagram
        self._system = system
        self._lookup = OwnLookup(reactor)
        self.tallies: dict[DnsServer, ServerTally] = {}
        self._usual = self._askers(counters, report, self._tallyOf)
        self._quiet = self._askers(Counters(), lambda sentence: None, ServerTally, quiet=True)
        self._lists: dict[_Wanted, ServerQueries] = {}
        self._named: OrderedDict[DnsServer, ServerQueries] = OrderedDict()
        self._note()

    def of(
        self,
        servers: tuple[DnsServer, ...],
        direct: bool = False,
        quiet: bool = False,
        keep: Callable[[DnsServer], bool] | None = None,
    ) -> ServerQueries:
        """
        The queries to a list of servers.  This is one look-up if it was asked for before.

        @param direct: whether all are asked past the proxies, whatever the settings say; for
            the proxies' own names.
        @param quiet: whether their trouble is neither logged nor counted.  They have
            connections of their own.
        @param keep: which of the servers are asked, once C{system} has become what it stands
            for.  Is called now, and again when that changes.
        """
        wanted = _Wanted(servers, direct, quiet, keep)
        found = self._lists.get(wanted)
        if found is None:
            isMain = servers == self._settings.dns
            isRules = any(servers == rule.servers for rule in self._settings.dnsRules)
            origin = OF_RULE if isRules and not isMain else OF_DNS
            key = b"" if isMain and keep is None else wanted.key(origin)
            found = self._lists[wanted] = self._made(wanted, key, "" if quiet else origin)
        return found

    def named(self, server: DnsServer) -> ServerQueries:
        """
        The queries to a server that the script names.  They go the way of all queries, and are
        never taken for those of the settings, though the server may be the same.
        """
        if server not in self._named:
            wanted = _Wanted((server,))
            self._named[server] = self._made(wanted, wanted.key(OF_SCRIPT), OF_SCRIPT)
        self._named.move_to_end(server)
        if len(self._named) > NAMED_LIMIT:
            self._named.popitem(last=False)
            self._letGo()
        return self._named[server]

    def at(self, server: DnsServer) -> INameServer:
        """What asks one server, by its own way."""
        return self._usual.at(self._withWay(server), _Wanted(self._settings.dns))

    def systemChanged(self) -> None:
        """The servers that C{system} stands for are others than before."""
        for wanted, queries in self._lists.items():
            if wanted.hasSystem:
                self._fill(queries, wanted)
        self._letGo()

    def renew(self) -> None:
        """Begin anew, as the machine is in another network."""
        for queries in self._queries():
            queries.renew()
        for tally in self.tallies.values():
            tally.renew()
        self._usual.renew()
        self._quiet.renew()

    def stop(self) -> None:
        """Close what is kept open.  May be called again."""
        self._lookup.stop()
        self._usual.stop()
        self._quiet.stop()

    def reports(self) -> list[dict[str, object]]:
        """
        What has come of the queries to each server, in the order of the settings: its
        L{ServerTally.report}, C{state} (C{up}, C{down} if it is asked last, C{unknown}) and
        C{trouble}.
        """
        down = {id(tally) for queries in self._queries() for tally in queries.down()}
        return [
            {
                **tally.report(),
                "state": "down" if id(tally) in down else "up" if tally.heard else "unknown",
                "trouble": tally.trouble,
            }
            for tally in self.tallies.values()
        ]

    def _queries(self) -> Iterator[ServerQueries]:
        yield from self._lists.values()
        yield from self._named.values()

    def _made(self, wanted: _Wanted, key: bytes, origin: str) -> ServerQueries:
        counters = self._askersOf(wanted).counters
        look = self._system if wanted.hasSystem else None
        made = ServerQueries(self._reactor, {}, counters, key, origin, look)
        self._fill(made, wanted)
        return made

    def _fill(self, queries: ServerQueries, wanted: _Wanted) -> None:
        """Have queries go to the servers that are wanted now."""
        askers = self._askersOf(wanted)
        found: dict[DnsServer, INameServer] = {}
        ofSystem: list[DnsServer] = []
        for server, isOfSystem in self._expanded(wanted.servers, wanted.direct):
            if server not in found and (wanted.keep is None or wanted.keep(server)):
                found[server] = askers.at(self._withWay(server, wanted.direct), wanted)
                if isOfSystem:
                    ofSystem.append(server)
        queries.replace(found, ofSystem)

    def _askersOf(self, wanted: _Wanted) -> _Askers:
        return self._quiet if wanted.quiet else self._usual

    def _expanded(
        self, servers: Iterable[DnsServer], direct: bool = False
    ) -> Iterator[tuple[DnsServer, bool]]:
        """
        The servers, with those that C{system} stands for in its place, and with literal
        addresses where they are asked by datagrams.

        @return: with each, whether C{system} stands for it.
        """
        for server in servers:
            if server.scheme == "system":
                for each in self._system():
                    made = each._replace(via=server.via)
                    # A proxy is not on this machine's links.
                    if "%" not in made.host or goesBare(
                        self._settings, self._withWay(made, direct)
                    ):
                        yield made, True
            elif server.scheme == "udp" and not server.literal:
                for address in server.addresses:
                    yield server._replace(host=address, addresses=()), False
            else:
                yield server, False

    def _withWay(self, server: DnsServer, direct: bool = False) -> DnsServer:
        """The server, as one object asks it for all lists."""
        via = "direct" if direct else viaOf(self._settings, server)
        return server._replace(via=via, domains=())

    def _letGo(self) -> None:
        """Stop what asks servers that are in no list any more."""
        used = {asked for queries in self._queries() for asked in queries.askers()}
        self._usual.keep(used)
        self._quiet.keep(used)
        self._note()

    def _note(self) -> None:
        """Have a tally for each server of the settings, and of others while they are in use."""
        known = {**self._before, **self.tallies}
        servers = [self._withWay(each) for each, _ in self._expanded(serversOf(self._settings))]
        servers += self._usual
        self.tallies = {each: known.get(each) or ServerTally(each) for each in servers}

    def _tallyOf(self, server: DnsServer) -> ServerTally:
        if server not in self.tallies:
            self.tallies[server] = self._before.get(server) or ServerTally(server)
        return self.tallies[server]

    def _askers(
        self,
        counters: Counters,
        report: Callable[[str], None],
        tallyOf: Callable[[DnsServer], ServerTally],
        quiet: bool = False,
    ) -> _Askers:
        def associations(via: str) -> QueryAssociations:
            way, where = partial(self._ways, via), None if quiet else f" {through(via)}"
            return QueryAssociations(self._reactor, way, counters, makeIdent, where)

        return _Askers(self._make, counters, report, tallyOf, associations)

    def _make(self, server: DnsServer, askers: _Askers, wanted: _Wanted) -> INameServer:
        """
        Make what asks a server.  This is the place that knows which class is for which scheme.

        @param server: its C{via} is not empty.
        @param askers: those that it is one of.
        @param wanted: the list that it is in.
        """
        reactor, way = self._reactor, partial(self._ways, server.via)
        tally, counters = askers.tallyOf(server), askers.counters
        ownVia = server.via != self._settings.dnsVia
        # Names that dnsRules have a server for are not faked.
        usual = (self._withWay(each) for each, _ in self._expanded(self._settings.dns))
        mayFake = couldFake(self._settings) and server in usual
        troubles = Troubles(server, ownVia, mayFake, askers.report, tally)
        if server.scheme != "udp":
            addresses = ServerAddresses(server, partial(self._lookUp, server, wanted), reactor)
            # Without a context, a server would be asked in the clear.
            context = self._contexts[keyOf(server)] if server.scheme in ENCRYPTED else None
            return StreamServer(server, way, addresses, context, reactor, counters, troubles, tally)
        if server.via == "direct":
            return DirectServer(server, way, self._makeDatagram, reactor, counters, troubles, tally)
        datagrams = askers.datagramsBy(server.via)
        return UpstreamServer(server, way, datagrams, reactor, counters, troubles, tally)

    def _lookUp(
        self, server: DnsServer, wanted: _Wanted, name: str, family: int
    ) -> Deferred[list[str]]:
        """Look the name of a server up at others that its list, or C{dns}, has."""
        known = bootstrapsOf(wanted.servers, server, self._settings.dns)
        return self._lookup.resolve(name, family, self.of(known, wanted.direct, wanted.quiet))
