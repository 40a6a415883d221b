"""Tests of L{nanotun.logsinks}; what it opens for C{--logfile} is in L{tests.test_logs}."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from nanotun import logsinks
from nanotun.logsinks import Terminal


class TerminalTests(SynchronousTestCase):
    """L{Terminal}."""

    def test_noStderr(self) -> None:
        """Without a stderr, or with nobody at its other end, lines are lost and that is all."""
        read, write = os.pipe()
        terminal = Terminal(write)
        self.addCleanup(terminal.release)
        os.close(write)
        os.close(read)
        terminal.write("a\n")
        Terminal(write).write("a\n")

    def test_release(self) -> None:
        """Once released, whoever reads the other end sees the end."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        terminal = Terminal(write)
        os.close(write)
        terminal.write("a\n")
        terminal.release()
        terminal.write("b\n")
        self.assertEqual(os.read(read, 10), b"a\n")
        self.assertEqual(os.read(read, 10), b"")

    def test_stalled(self) -> None:
        """A terminal that takes no more costs one short wait and then nothing but lines."""
        self.patch(logsinks, "STALL_LIMIT", 0.01)
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        os.set_blocking(write, False)
        terminal = Terminal(write)
        self.addCleanup(terminal.release)
        filled = os.write(write, b"x" * 1_000_000)
        os.set_blocking(write, True)
        os.close(write)
        for _ in range(1000):
            terminal.write("lost\n")
        self.assertEqual(len(os.read(read, filled)), filled)
        terminal.write("again\n")
        self.assertEqual(os.read(read, 100), b"again\n")

    def test_journal(self) -> None:
        """It is the journal only if JOURNAL_STREAM names its own device and inode."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        terminal = Terminal(write)
        self.addCleanup(terminal.release)
        status = os.fstat(write)
        os.close(write)
        named = f"{status.st_dev}:{status.st_ino}"
        self.assertTrue(terminal.isJournal({"JOURNAL_STREAM": named}))
        for other in ({}, {"JOURNAL_STREAM": "1:2"}, {"JOURNAL_STREAM": ""}):
            self.assertFalse(terminal.isJournal(other))
        terminal.release()
        self.assertFalse(terminal.isJournal({"JOURNAL_STREAM": named}))
