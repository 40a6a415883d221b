"""Tests of L{nanotun.routing.firewall.cgroupwatch}."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from twisted.internet import inotify
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.python.filepath import FilePath
from twisted.trial.unittest import TestCase

from nanotun.routing.firewall.cgroupwatch import CgroupWatch

WANTED = ("/system.slice/app.service", "/games")


def watches() -> int:
    """How many inotify descriptors this process has."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        # The one of the listing is gone.
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}") == "anon_inode:inotify"
    return count


class WatchTests(TestCase):
    """L{CgroupWatch}, with the kernel's own messages about a folder."""

    timeout = 20

    def setUp(self) -> None:
        """Watch an empty hierarchy."""
        from twisted.internet import reactor

        self.reactor = reactor
        self.folder = os.path.realpath(self.mktemp())
        os.mkdir(self.folder)
        self.calls = 0
        self.heard: Deferred[None] | None = None
        self.watch = CgroupWatch(self.reactor, self.folder, WANTED, self.made)
        self.addCleanup(self.watch.stop)

    def made(self) -> None:
        """Count it."""
        self.calls += 1
        heard, self.heard = self.heard, None
        if heard is not None:
            heard.callback(None)

    def make(self, path: str) -> Deferred[None]:
        """Make a group that is waited for."""
        self.heard = Deferred()
        os.mkdir(self.folder + path)
        return self.heard

    def settle(self) -> Deferred[None]:
        """Wait as long as a message takes at most."""
        return deferLater(self.reactor, 0.2, lambda: None)

    @inlineCallbacks
    def test_made(self) -> Any:
        """A wanted group is told of whenever it is made, and no other one is."""
        self.watch.start()
        for _ in range(3):
            yield self.make("/games")
            os.rmdir(f"{self.folder}/games")
        before = self.calls
        os.mkdir(f"{self.folder}/other.service")
        yield self.settle()
        self.assertEqual(self.calls, before)

    @inlineCallbacks
    def test_below(self) -> Any:
        """A folder that comes later, and again, is watched from then on."""
        self.watch.start()
        for _ in range(2):
            yield self.make("/system.slice")
            yield self.make("/system.slice/app.service")
            yield self.settle()
            os.rmdir(f"{self.folder}/system.slice/app.service")
            os.rmdir(f"{self.folder}/system.slice")
            yield self.settle()
            self.watch.stop()
            self.watch.start()

    @inlineCallbacks
    def test_stopped(self) -> Any:
        """After the stop nothing is told, and nothing is left open."""
        before = watches()
        self.watch.start()
        self.assertEqual(watches(), before + 1)
        self.watch.stop()
        os.mkdir(f"{self.folder}/games")
        yield self.settle()
        self.assertEqual(self.calls, 0)
        self.assertEqual(watches(), before)

    def test_nothing(self) -> None:
        """Without groups, or without a hierarchy, nothing is opened."""
        self.patch(inotify, "INotify", None)
        CgroupWatch(self.reactor, self.folder, (), self.made).start()
        CgroupWatch(self.reactor, "", WANTED, self.made).start()

    def test_refused(self) -> None:
        """If the kernel gives no watch, that is a warning, and no more."""

        def refuse(self: object, path: FilePath[str], *rest: object, **more: object) -> None:
            raise inotify.INotifyError("no space left")

        self.patch(inotify.INotify, "watch", refuse)
        with capturedLogs() as logs:
            self.watch.start()
        self.assertIn("looked for every few seconds", str(logs[0]["log_format"]))
        self.watch.stop()
