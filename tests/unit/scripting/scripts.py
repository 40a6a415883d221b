"""
Scripts for tests: files in a folder whose owners are made up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from textwrap import dedent
from typing import cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from nanotun.scripting.load import Guard, Loaded, ScriptFinder, loadScript
from nanotun.scripting.script import Script, ScriptOptions

#: What the upstreams of the tests are called, with the fields of their user names.
NAMES = {
    **dict.fromkeys(("proxy", "office", "direct", "reject", "drop"), frozenset[str]()),
    "tor": frozenset(("session",)),
}

#: How the line about a failure ends.
REFUSED = "; what it is asked about is refused meanwhile (scriptError)."


class Folder:
    """
    A folder with real files.  As far as L{lstat} tells, all is root's, and nobody else may
    write anything on the way to the folder.

    @ivar path: the folder's absolute path.
    @ivar owners: the users that places belong to instead, by path.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        os.makedirs(self.path, mode=0o755)
        self.owners: dict[str, int] = {}

    def place(self, name: str) -> str:
        """The absolute path of something in the folder."""
        return os.path.join(self.path, name)

    def write(self, name: str, text: str = "") -> str:
        """
        Write a file, and the directories on the way to it.

        @return: its path.
        """
        path = self.place(name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(path, "w") as file:
            file.write(dedent(text))
        os.chmod(path, 0o644)
        return path

    def lstat(self, path: str) -> os.stat_result:
        """For what takes L{os.lstat}."""
        real = os.lstat(path)
        values = list(real)
        if not path.startswith(self.path):
            values[0] = real.st_mode & ~0o1022
        values[4] = self.owners.get(path, 0)
        return os.stat_result(values)

    def guard(self, trusted: Collection[int] = (), running: Collection[str] = ()) -> Guard:
        """Who looks at the files of the folder."""
        return Guard(trusted, running, {1000: "ann", 1001: "bob"}.__getitem__, self.lstat)


class ScriptCase(SynchronousTestCase):
    """
    A test with scripts in a folder.

    @ivar folder: where they are.
    @ivar clock: theirs.
    @ivar logged: the lines that they have caused, with C{...} for the folder.
    """

    def setUp(self) -> None:
        self.folder = Folder(self.mktemp())
        self.clock = Clock()
        self.logged: list[str] = []

        observer = cast("ILogObserver", self._observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def _observe(self, event: LogEvent) -> None:
        if event["log_namespace"].startswith("nanotun.scripting"):
            self.logged.append(formatEvent(event).replace(self.folder.path, "..."))

    def load(self, text: str, trusted: Collection[int] = ()) -> Loaded:
        """Write the script and import it; it is unloaded after the test."""
        path = self.folder.write("flows.py", text)
        loaded = loadScript(path, self.folder.guard(trusted))
        self.addCleanup(loaded.unload)
        return loaded

    def script(self, text: str, onError: str = "reject", timeout: float = 5.0) -> Script:
        """Write the script and make one of it; it is stopped after the test."""
        script = Script(self.load(text), ScriptOptions(timeout, onError, NAMES), self.clock)
        self.addCleanup(script.stop)
        return script

    def assertNothingLeft(self) -> None:
        """Nothing that a script has imported is left, and nobody who looks for it."""
        ours = [
            name
            for name, each in dict(sys.modules).items()
            if str(getattr(each, "__file__", "")).startswith(self.folder.path)
        ]
        self.assertEqual(ours, [])
        self.assertEqual([each for each in sys.meta_path if isinstance(each, ScriptFinder)], [])
