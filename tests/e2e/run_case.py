"""
What the tests of C{nanotun run} share: they run it as a user does, be that root or another.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.case import LabCase, addTests
from tests.e2e.lab.cell import Done, Running, nanotun
from tests.e2e.lab.ordinary import asOrdinary
from tests.e2e.lab.topology import IPV4, IPV6

#: Of commands that connect to nothing; nobody asks whether it works.
NOWHERE = "reject://"


class RunCase(LabCase):
    """
    What all tests need.

    @cvar byRoot: whether root runs it.
    """

    byRoot = True

    def setUp(self) -> None:
        """Find out how it is called."""
        super().setUp()
        self.program = [nanotun()]
        if not self.byRoot:
            self.program.insert(0, asOrdinary(self.directory))

    def openDirectPath(self) -> None:
        """Give the app's machine a way to the world; an ordinary user's packets have no mark."""
        self.lab.openDirectPath()
        if not self.byRoot:
            self.lab.app.ip(f"route add default via {IPV4.proxy}")
            self.lab.app.ip(f"route add default via {IPV6.proxy}", version="-6")

    def argv(self, command: Sequence[str], proxy: str = NOWHERE, *options: str) -> list[str]:
        """The command line of C{nanotun run}."""
        return [
            *self.program,
            "run",
            *("--proxy", proxy, "--connect-timeout", "2s"),
            *options,
            "--",
            *command,
        ]

    def start(self, *command: str, proxy: str = NOWHERE, options: Sequence[str] = ()) -> Running:
        """Start a command that keeps running."""
        return self.launch(self.argv(command, proxy, *options))

    def launch(self, argv: Sequence[str]) -> Running:
        """Start any command line in the app's namespace."""
        running = Running(self.lab.app, argv, self.directory)
        self.addCleanup(running.kill)
        return running

    def call(
        self, *command: str, proxy: str = NOWHERE, options: Sequence[str] = (), text: str = ""
    ) -> Done:
        """Run a command to its end."""
        return self.start(*command, proxy=proxy, options=options).done(text)


class ByRoot:
    """Mixin: root runs it."""


class ByUser:
    """Mixin: an ordinary user runs it."""

    byRoot = False


def callers(namespace: dict[str, object], *cases: type[RunCase]) -> None:
    """
    Add to a module two subclasses of each case: root's and an ordinary user's.

    @param namespace: the module's C{globals()}.
    """
    for case in cases:
        for caller in (ByRoot, ByUser):
            addTests(namespace, case, caller)
