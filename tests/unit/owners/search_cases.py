"""
What the tests of the search for processes share.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.selectors import selectors
from nanotun.owners.descriptors import Descriptors
from nanotun.owners.makers import Makers
from nanotun.owners.matching import Matcher
from nanotun.owners.newcomers import Newcomers
from nanotun.owners.scanner import Scanner
from nanotun.owners.search import Search
from nanotun.owners.values import EMPTY, FlowSocket, Made, Table
from nanotun.testing import FakeCgroups, FakeProcesses

OWN = 50
"""The pid of the daemon."""


class ProcessesCase(SynchronousTestCase):
    """Some processes, and a clock that the test advances."""

    excluded = "curl"
    children = False

    def setUp(self) -> None:
        """An init, a shell and a daemon, all of some age."""
        self.clock = Clock()
        self.processes = FakeProcesses()
        self.processes.spawn(1, "/sbin/init", parent=0, uid=0)
        self.processes.spawn(10, "/bin/bash", session=10)
        self.processes.spawn(OWN, "/usr/bin/python3", uid=0, session=OWN)
        self.age(100)
        self.matcher = Matcher(
            selectors(self.excluded),
            self.children,
            {"nobody": 65534}.__getitem__,
            lambda path: path,
        )
        self.pauses: list[float] = []
        self.descriptors = Descriptors(self.processes, self.clock.seconds)
        self.scanner = Scanner(
            self.processes,
            self.descriptors,
            self.matcher,
            self.children,
            lambda: OWN,
            self.pauses.append,
        )
        self.newcomers = Newcomers(
            self.processes, self.matcher, self.children, self.clock.seconds, self.clock.seconds
        )
        self.cgroups = FakeCgroups()
        self.record: dict[int, Made] = {}
        self.search = Search(
            self.processes,
            self.cgroups,
            self.newcomers,
            self.descriptors,
            Makers(self.record.get, self.processes),
            self.clock.seconds,
        )

    def age(self, seconds: float) -> None:
        """Let time pass for the processes."""
        self.processes.now += seconds

    def scan(self, previous: Table = EMPTY, *listeners: int) -> Table:
        """Scan, and give the table to the search."""
        table = self.scanner.scan(previous, listeners)
        self.search.reset(table)
        return table

    def texts(self, table: Table) -> dict[int, str]:
        """The selectors of the excluded processes, by pid."""
        return {pid: excluded.text for pid, excluded in table.excluded.items()}

    def find(self, inode: int, cgroup: str = "/", uid: int = 1000, connected: bool = True) -> int:
        """The pid of the excluded process that has a socket, or 0."""
        found = FlowSocket(inode, uid, 0, 1, connected)
        excluded = self.search.find(found, cgroup, self.clock.seconds() + 1).excluded
        return 0 if excluded is None else excluded.process.pid
