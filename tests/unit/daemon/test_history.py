"""Tests of L{nanotun.daemon.history}."""

from __future__ import annotations

import builtins
import os
import sqlite3
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.daemon import history
from nanotun.daemon.history import makeHistory, openFlows, recordingReport
from nanotun.flow import FlowEnd
from nanotun.history.recorder import FlowRecorder
from tests.unit.history.cases import ask
from tests.unit.router.test_listing import ListingCase


def settingsWith(**given: str) -> Settings:
    """Settings of a daemon."""
    flags = {name: flagValue(KEYS[name], text) for name, text in given.items()}
    return makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "h"), **flags}, None)


class OpenFlowsTests(ListingCase):
    """L{openFlows}."""

    def test_carried(self) -> None:
        """All flows that are carried are there, over several pages, and none that waits."""
        self.patch(history, "PAGE", 2)
        joined = [self.join() for _ in range(5)]
        self.engine.carried[joined[1]] = (7, 9)
        self.engine.ages[joined[1]] = (12.5, 1.0)
        self.engine.request()
        found = list(openFlows(self.router.listing))
        self.assertEqual([end.flow.id for end, _ in found], joined)
        end, note = found[1]
        number = self.engine.notes[joined[1]]
        self.assertEqual(end, FlowEnd(end.flow, 0, 7, 9, number, 12.5))
        assert note is not None
        self.assertEqual((note.rule, note.upstream), ("#2", "office"))


class MakeHistoryTests(ListingCase):
    """L{makeHistory}."""

    def test_unset(self) -> None:
        """Without flowLog there is no part."""
        parts = makeHistory(settingsWith(), self.router, self.clock)
        self.assertEqual((parts, recordingReport(parts)), ((), None))

    def test_set(self) -> None:
        """With it there is one, which follows the router's ends from its start to its stop."""
        path = os.path.abspath(self.mktemp())
        settings = settingsWith(flowLog=path, flowLogSize="2MiB", flowLogDays="3")
        (part,) = makeHistory(settings, self.router, self.clock)
        self.assertIsInstance(part, FlowRecorder)
        self.assertFalse(self.router.ends.active)
        self.assertFalse(os.path.exists(path))
        report = {"file": path, "recorded": 0, "lost": 0, "waiting": 0, "trouble": ""}
        self.assertEqual(recordingReport((part,)), report)

    def test_noSqlite(self) -> None:
        """A Python without SQLite is one sentence that says what to do."""
        real = builtins.__import__

        def imports(name: str, *arguments: Any, **keywords: Any) -> Any:
            if name == "nanotun.history.recorder":
                raise ImportError("No module named '_sqlite3'")
            return real(name, *arguments, **keywords)

        self.patch(builtins, "__import__", imports)
        settings = settingsWith(flowLog="/x")
        error = self.assertRaises(SystemExit, makeHistory, settings, self.router, self.clock)
        self.assertIn("flowLog needs Python's module sqlite3", str(error))


class WholeRecordTests(ListingCase, TestCase):
    """The record with the router, the reactor and a real file."""

    @inlineCallbacks
    def test_recorded(self) -> Any:
        """Flows that end are in the file after the stop, and those that were open, too."""
        from twisted.internet import reactor

        path = os.path.abspath(self.mktemp())
        (part,) = makeHistory(settingsWith(flowLog=path), self.router, reactor)
        part.start()
        ended, left = self.join(), self.join()
        self.engine.carried.update({ended: (3, 4), left: (1, 2)})
        self.engine.end(ended)
        yield part.stop()
        self.assertFalse(self.router.ends.active)
        self.assertEqual(
            ask(path, "SELECT upstream, domain, up, down, ending FROM flows ORDER BY id"),
            [("office", "example.com", 3, 4, "closed"), ("office", "example.com", 1, 2, "stop")],
        )

    @inlineCallbacks
    def test_impossible(self) -> Any:
        """A file that cannot be made costs its records, and stops neither start nor stop."""
        from twisted.internet import reactor

        settings = settingsWith(flowLog="/proc/nonexistent/flows.db")
        (part,) = makeHistory(settings, self.router, reactor)
        part.start()
        self.engine.end(self.join())
        with capturedLogs() as events:
            yield part.stop()
        self.assertEqual([each.get("left") for each in events], [None, 1])
        self.assertIn("No such file or directory", events[0]["sentence"])
        self.assertRaises(sqlite3.OperationalError, ask, "/proc/nonexistent/flows.db", "SELECT 1")
