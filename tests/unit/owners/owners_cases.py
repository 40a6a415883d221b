"""
Owners with a machine that is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.selectors import selectors
from nanotun.flow import Endpoint, Flow, Owner, Protocol
from nanotun.linux.users import uidOf
from nanotun.log.trouble import TroubleLog
from nanotun.owners.claims import Claims
from nanotun.owners.described import Descriptions
from nanotun.owners.descriptors import Descriptors, OutOfTime
from nanotun.owners.established import Established
from nanotun.owners.hops import NextHops
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.lookup import OwnerLookup
from nanotun.owners.makers import Makers
from nanotun.owners.matching import Matcher
from nanotun.owners.newcomers import Newcomers
from nanotun.owners.options import OwnerOptions
from nanotun.owners.owners import Owners
from nanotun.owners.scanner import Scanner
from nanotun.owners.schedule import ScanSchedule
from nanotun.owners.search import Search
from nanotun.owners.values import Made
from nanotun.testing import FakeCgroups, FakeProcesses, FakeSockets
from nanotun.upstream.schemes.table import parseProxyURL

OWN = 50
REFRESH = 15.0
SOURCE = Endpoint("192.0.2.1", 4000)
TARGET = Endpoint("198.51.100.7", 443)
TCP = Flow(1, Protocol.TCP, SOURCE, TARGET)
UDP = Flow(1, Protocol.UDP, SOURCE, TARGET)


def uidOfUser(text: str) -> int:
    """The number of a user, where alice is 7."""
    return uidOf(text, {"alice": 7}.__getitem__)


class OwnersCase(SynchronousTestCase):
    """
    Owners whose scans are done when the test says so.

    @ivar onward: where connections to a proxy's address are passed on to.
    @ivar originals: flows before the firewall changed them, by how they arrive.
    """

    proxy = "192.0.2.99:1080"

    def setUp(self) -> None:
        """Some processes."""
        self.clock = Clock()
        self.processes = FakeProcesses()
        self.processes.spawn(1, "/sbin/init", parent=0, uid=0)
        self.processes.spawn(OWN, "/usr/bin/python3", uid=0)
        self.processes.now += 100
        self.sockets = FakeSockets()
        self.cgroups = FakeCgroups()
        self.record: dict[int, Made] = {}
        self.onward: dict[Endpoint, str] = {}
        self.originals: dict[Flow, Flow] = {}
        self.scans: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def owners(
        self,
        excluded: str = "curl",
        children: bool = False,
        sought: str = "",
        everybody: bool = False,
        overruled: bool = False,
    ) -> Owners:
        """Make owners and start them."""
        owners = self.make(excluded, children, sought, everybody, overruled)
        owners.start()
        self.addCleanup(self.stop, owners)
        return owners

    def stop(self, owners: Owners) -> None:
        """Stop them, unless the test did."""
        if owners._loop.running:
            owners.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def make(
        self,
        excluded: str,
        children: bool = False,
        sought: str = "",
        everybody: bool = False,
        overruled: bool = False,
    ) -> Owners:
        """
        Make owners.

        @param sought: the selectors of rules.
        @param everybody: see L{OwnerOptions}.
        @param overruled: likewise.
        """
        named = dict.fromkeys(selectors(sought), "rules")
        matcher = Matcher(selectors(excluded), children, uidOfUser, str, named)
        descriptors = Descriptors(self.processes, self.clock.seconds)
        newcomers = Newcomers(self.processes, matcher, children, *[self.clock.seconds] * 2)
        makers = Makers(self.record.get, self.processes)
        search = Search(
            self.processes,
            self.cgroups,
            newcomers,
            descriptors,
            makers,
            self.clock.seconds,
            everybody or matcher.seeksPrograms,
        )
        scanner = Scanner(
            self.processes, descriptors, matcher, children, lambda: OWN, lambda seconds: None
        )
        proxies = LocalProxies(
            [parseProxyURL(self.proxy)], self.sockets, self.processes.ownAddresses
        )
        hops = NextHops(
            proxies,
            lambda endpoint, pids: self.onward.get(endpoint, ""),
            self.originals.get,
            lambda hosts: (),
            lambda host: host in self.processes.addresses,
            self.clock,
            lambda look: succeed(look()),
        )
        trouble = TroubleLog(self.clock, Owners._log)
        schedule = ScanSchedule(scanner, proxies, REFRESH, self.clock, self.inThread, trouble)
        lookup = OwnerLookup(
            self.sockets,
            matcher,
            search,
            proxies,
            Claims(self.processes, proxies),
            hops,
            schedule,
            trouble,
            self.clock,
            self.clock.seconds,
            lambda: OWN,
            Descriptions(self.processes, self.cgroups, matcher),
            everybody,
            overruled,
        )
        return Owners(
            self.processes,
            self.sockets,
            self.cgroups,
            matcher,
            lookup,
            hops,
            schedule,
            trouble,
            self.clock,
            self.clock.seconds,
            lambda: OWN,
            Established(
                self.processes, self.sockets, lookup.excluded, lambda *socket: True, lambda: OWN
            ),
            OwnerOptions("tun"),
        )

    def inThread(self, scan: Callable[[], Any]) -> Deferred[Any]:
        """Instead of a thread."""
        self.scans.append((scan, Deferred()))
        return self.scans[-1][1]

    def finish(self) -> None:
        """Complete the scan that was begun."""
        scan, done = self.scans.pop(0)
        done.callback(scan())

    def program(self, pid: int, path: str, flow: Flow = TCP, uid: int = 1000, **what: Any) -> int:
        """Start a process that has a flow's socket; returns the socket's inode."""
        self.processes.spawn(pid, path, uid=uid)
        inode = self.sockets.add(flow.protocol, flow.source, flow.destination, uid, **what)
        self.processes.open(pid, inode)
        return inode

    def slow(self, owners: Owners) -> Any:
        """No lookup has enough time, as long as the result is entered."""
        return mock.patch.object(owners._lookup._search, "find", side_effect=OutOfTime)

    def wait(self, owners: Owners, flow: Flow = TCP) -> Deferred[Owner | None]:
        """Ask for the owner of a flow that has to wait."""
        owner = owners.ownerOf(flow)
        assert isinstance(owner, Deferred)
        self.assertNoResult(owner)
        return owner
