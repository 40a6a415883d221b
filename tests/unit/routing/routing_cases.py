"""
What tests of the routes have in common.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from nanotun.config.networks import Network
from nanotun.config.settings import Settings
from nanotun.errors import RoutingError
from nanotun.interfaces import End
from nanotun.routing.applied import Applied
from nanotun.routing.changes import Changes
from nanotun.routing.exceptions import Exceptions
from nanotun.routing.firewall.cgroupwatch import CgroupWatch
from nanotun.routing.host import HostReader
from nanotun.routing.interfaces import IChange
from nanotun.routing.journal import Journal
from nanotun.routing.monitor import NetworkMonitor
from nanotun.routing.netlink import CachedRoutes
from nanotun.routing.place import NetworkPlace
from nanotun.routing.reconciler import Reconciler
from nanotun.routing.routes import Routes
from nanotun.routing.values import LAST, PROTOCOL, Interface, Wishes
from nanotun.testing import MemoryRoutes

PLACE = NetworkPlace("boot", 7)
UPLINK = Interface("up0", ("192.168.1.0/24", "2001:db8::/64"), ("192.168.1.1", "2001:db8::1"))
TUNNEL = Interface("nano0", ("198.18.0.0/30", "fdfe:dcba:9876::/126"))


def ruleMessageOf(family: int = socket.AF_INET, **attributes: Any) -> dict[str, Any]:
    """A rule as pyroute2 has read it: by default, our last."""
    given = {"FRA_PROTOCOL": PROTOCOL, "FRA_PRIORITY": LAST, **attributes}
    return {
        "family": family,
        "action": 3,
        "flags": 0,
        "src_len": 0,
        "dst_len": 0,
        "attrs": list(given.items()),
    }


@implementer(IChange)
class FakeChange:
    """
    A change of another kind: its name is there, or not.

    @cvar there: the names of those that are done, in this order.
    """

    kind = "fake"

    def __init__(self, name: str, there: list[str], fails: set[str]) -> None:
        self.name, self.there, self.fails = name, there, fails

    def describe(self) -> str:
        """See L{IChange.describe}."""
        return f"do {self.name}"

    def describeUndo(self) -> str:
        """See L{IChange.describeUndo}."""
        return f"undo {self.name}"

    def record(self) -> dict[str, Any]:
        """See L{IChange.record}."""
        return {"name": self.name}

    def apply(self) -> None:
        """See L{IChange.apply}."""
        if f"do {self.name}" in self.fails:
            raise RoutingError(f"{self.name} cannot be done.")
        self.there.append(self.name)

    def undo(self) -> None:
        """See L{IChange.undo}."""
        if f"undo {self.name}" in self.fails:
            raise RoutingError(f"{self.name} cannot be undone.")
        if self.name in self.there:
            self.there.remove(self.name)

    def holds(self) -> bool:
        """See L{IChange.holds}."""
        return self.name in self.there


class RoutingCase(SynchronousTestCase):
    """
    A machine of memory.

    @ivar kernel: its rules and routes.
    @ivar root: its C{/proc/sys}.
    @ivar there: what changes of another kind are done.
    @ivar gone: whether a network namespace that a journal names does not exist any more.
    @ivar fails: what of them does not work, such as C{"do x"}.
    """

    def setUp(self) -> None:
        """Make the machine."""
        self.kernel = MemoryRoutes(UPLINK, TUNNEL)
        self.directory = Path(self.mktemp())
        self.runDir = self.directory / "run"
        self.root = self.directory / "sys"
        for name in ("all", "up0", "nano0"):
            self.sysctl(name).parent.mkdir(parents=True)
            self.sysctl(name).write_text("0\n")
        (self.root / "net/ipv6").mkdir()
        self.there: list[str] = []
        self.fails: set[str] = set()
        self.place = PLACE
        self.gone = False
        self.clock = Clock()

    def sysctl(self, name: str) -> Path:
        """The file of an interface's rp_filter."""
        return self.root / f"net/ipv4/conf/{name}/rp_filter"

    def fake(self, name: str) -> FakeChange:
        """A change of another kind."""
        return FakeChange(name, self.there, self.fails)

    def journal(self) -> Journal:
        """The journal, as a new process finds it."""
        return Journal(str(self.runDir), lambda: self.place, lambda *_: self.gone)

    def changes(self, cached: CachedRoutes | None = None) -> Changes:
        """The maker of changes."""
        kinds = {"fake": lambda record: self.fake(record["name"])}
        return Changes(cached or CachedRoutes(self.kernel), kinds, root=str(self.root))

    def applied(self) -> Applied:
        """The changes in force, as a new process has them."""
        return Applied(self.journal(), self.changes())

    def written(self) -> list[str]:
        """The journal's changes, as commands."""
        applied = self.applied()
        applied.load()
        return [change.describe() for change in applied.made]


class FakeMonitor(NetworkMonitor):
    """
    Hears nothing.

    @ivar changed: what is to be called.
    @ivar listening: whether it was started.
    """

    def __init__(self, changed: Any) -> None:
        super().__init__(None, changed)
        self.changed = changed
        self.listening = False

    def start(self) -> None:
        """Note it."""
        self.listening = True

    def stop(self) -> None:
        """Note it."""
        self.listening = False


class FakeWatch(CgroupWatch):
    """
    Hears nothing.

    @ivar saw: of each start, how many rules there were; C{"stop"} of a stop.
    """

    def __init__(self, made: Any, kernel: Any) -> None:
        super().__init__(None, "", (), made)
        self.made, self.kernel = made, kernel
        self.saw: list[object] = []

    def start(self) -> None:
        """Note it."""
        self.saw.append(len(self.kernel.rules()))

    def stop(self) -> None:
        """Note it."""
        self.saw.append("stop")


class RoutesCase(RoutingCase):
    """
    With the part made of it.

    @ivar addresses: what the proxy's name leads to.
    @ivar ports: where SSH is served.
    @ivar statuses: with which the daemon was ended.
    @ivar end: how the daemon ends.
    @ivar networks: how often the network changed.
    @ivar extra: what the firewall does.
    @ivar excluded: the networks that it was told to leave alone.
    @ivar relatives: the other addresses of proxies behind this machine.
    """

    def setUp(self) -> None:
        """Make what the routes need."""
        super().setUp()
        self.addresses = ["9.9.9.9"]
        self.ports: tuple[int, ...] = (22,)
        self.statuses: list[int] = []
        self.end = End.STOP
        self.networks = 0
        self.extra = ["firewall"]
        self.excluded: tuple[Network, ...] = ()
        self.relatives: tuple[str, ...] = ()
        self.monitor: FakeMonitor
        self.watch: FakeWatch

    def routes(self, confirm: int = 0, **wishes: Any) -> Routes:
        """The routes, as a new process has them."""
        cached = CachedRoutes(self.kernel)
        changes = self.changes(cached)
        wanted = Wishes(**{"device": "nano0", **wishes})

        def lookUp(name: str) -> Deferred[list[str]]:
            return succeed(list(self.addresses))

        def makeMonitor(changed: Any) -> FakeMonitor:
            self.monitor = FakeMonitor(changed)
            return self.monitor

        def makeWatch(made: Any) -> CgroupWatch:
            self.watch = FakeWatch(made, self.kernel)
            return self.watch

        def networkChanged() -> None:
            self.networks += 1

        exceptions = Exceptions(
            ("proxy.example",),
            lambda name: list(self.addresses),
            lookUp,
            lambda: self.ports,
            lambda function: succeed(function()),
        )
        reconciler = Reconciler(
            wanted,
            cached,
            HostReader(
                cached,
                wanted,
                root=str(self.root),
                relatives=lambda hosts: self.relatives if hosts else (),
            ),
            exceptions,
            changes,
            Applied(self.journal(), changes),
            lambda killSwitch, host: [self.fake(name) for name in self.extra],
            lambda rules, earlier: [self.fake(f"switch {len(rules)} {len(earlier)}")],
        )
        return Routes(
            reconciler,
            exceptions,
            makeMonitor,
            self.clock,
            networkChanged,
            confirm,
            self.statuses.append,
            lambda: self.end,
            "It stays closed.",
            self.exclude,
            makeWatch,
        )

    def exclude(self, settings: Settings) -> bool:
        """What the firewall does with other settings; it had excluded nothing before."""
        self.excluded = settings.excludedIPs
        return bool(settings.excludedIPs)
