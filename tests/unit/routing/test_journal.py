"""
Tests for L{nanotun.routing.journal}.
"""

from __future__ import annotations

import json
import os
import stat

from nanotun.errors import RoutingError
from nanotun.routing.journal import Entry, Journal
from nanotun.routing.place import NetworkPlace
from tests.unit.routing.routing_cases import RoutingCase

ENTRIES = [Entry("rule", {"priority": 1}), Entry("fake", {"name": "x"})]


class JournalTests(RoutingCase):
    """Tests for L{Journal}."""

    def test_roundTrip(self) -> None:
        """Another process reads what was written."""
        self.journal().write(ENTRIES, True)
        self.assertEqual(self.journal().read(), (ENTRIES, True))
        mode = os.stat(self.journal().path).st_mode
        self.assertEqual(stat.S_IMODE(mode), 0o600)
        self.assertEqual(os.listdir(self.runDir), ["journal.json"])

    def test_none(self) -> None:
        """Without a file there is nothing to undo."""
        self.assertEqual(self.journal().read(), ([], False))
        self.journal().remove()

    def test_empty(self) -> None:
        """If there is nothing to undo, there is no file."""
        self.journal().write(ENTRIES, True)
        self.journal().write([], False)
        self.assertEqual(os.listdir(self.runDir), [])

    def test_leftover(self) -> None:
        """Half a new journal, left by a killed process, is ignored."""
        self.journal().write(ENTRIES, False)
        with open(f"{self.journal().path}.new", "w") as file:
            file.write('{"half')
        self.assertEqual(self.journal().read()[0], ENTRIES)
        self.journal().write(ENTRIES[:1], False)
        self.assertEqual(self.journal().read()[0], ENTRIES[:1])
        self.journal().remove()
        with open(f"{self.journal().path}.new", "w") as file:
            file.write('{"half')
        self.journal().remove()
        self.assertEqual(os.listdir(self.runDir), [])

    def test_otherBoot(self) -> None:
        """After a reboot there is nothing to undo."""
        self.journal().write(ENTRIES, True)
        self.place = NetworkPlace("another boot", 7)
        self.assertEqual(self.journal().read(), ([], False))

    def test_otherNamespace(self) -> None:
        """A journal of another network namespace is an error that says what to do."""
        self.journal().write(ENTRIES, True)
        self.place = NetworkPlace("boot", 8)
        error = self.assertRaises(RoutingError, self.journal().read)
        self.assertIn("another network namespace", str(error))

    def test_goneNamespace(self) -> None:
        """A namespace that is gone has taken all changes with it, and its kill switch."""
        self.place = NetworkPlace("boot", 7, 100)
        self.journal().write(ENTRIES, True)
        self.gone = True
        for place in (NetworkPlace("boot", 8, 101), NetworkPlace("boot", 7, 101)):
            self.place = place
            self.assertEqual(self.journal().read(), ([], False))
        # Without the cookie, which an older kernel does not tell, the inode counts.
        self.place = NetworkPlace("boot", 7)
        self.assertEqual(self.journal().read(), (ENTRIES, True))

    def test_older(self) -> None:
        """A journal of an older nanotun, without the cookie, is read."""
        self.journal().write(ENTRIES, True)
        whole = json.loads(self.runDir.joinpath("journal.json").read_text())
        del whole["cookie"]
        self.runDir.joinpath("journal.json").write_text(json.dumps(whole))
        self.assertEqual(self.journal().read(), (ENTRIES, True))

    def test_damaged(self) -> None:
        """If the file is no journal, the error says what to do."""
        self.journal().write(ENTRIES, True)
        whole = json.loads(self.runDir.joinpath("journal.json").read_text())
        for text in ("", "[]", "{}", json.dumps({**whole, "version": 2}), "\0\xff"):
            self.runDir.joinpath("journal.json").write_text(text)
            error = self.assertRaises(RoutingError, self.journal().read)
            self.assertIn("--force", str(error))

    def test_unwritable(self) -> None:
        """If the file cannot be written, the error is one sentence and the old file is kept."""
        self.runDir.write_text("a file")
        error = self.assertRaises(RoutingError, self.journal().write, ENTRIES, False)
        self.assertIn("cannot be written", str(error))
        self.assertRaises(RoutingError, self.journal().read)

    def test_here(self) -> None:
        """What was written in this network namespace is read there."""
        Journal(str(self.runDir)).write(ENTRIES, False)
        self.assertEqual(Journal(str(self.runDir)).read(), (ENTRIES, False))
