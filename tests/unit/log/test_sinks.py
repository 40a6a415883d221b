"""Tests of L{nanotun.log.sinks}; test_service has what it opens for C{--logfile}."""

from __future__ import annotations

import os
import pty
import select
import socket
import termios
import tty

from twisted.trial.unittest import SynchronousTestCase

from nanotun.log import sinks as logsinks
from nanotun.log.sinks import Terminal


class TerminalTests(SynchronousTestCase):
    """L{Terminal}."""

    def test_noStderr(self) -> None:
        """Lines are lost without an error if stderr, or its other end, is closed."""
        read, write = os.pipe()
        terminal = Terminal(write)
        self.addCleanup(terminal.release)
        os.close(write)
        os.close(read)
        terminal.write("a\n")
        Terminal(write).write("a\n")

    def test_release(self) -> None:
        """After the release, a reader at the other end gets the end of file."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        terminal = Terminal(write)
        os.close(write)
        terminal.write("a\n")
        terminal.release()
        terminal.write("b\n")
        self.assertEqual(os.read(read, 10), b"a\n")
        self.assertEqual(os.read(read, 10), b"")

    def stall(self, read: int, write: int) -> None:
        """A full stderr costs short waits and lost lines, and gets lines when there is room."""
        self.patch(logsinks, "STALL_LIMIT", 0.01)
        blocking = os.get_blocking(write)
        terminal = Terminal(write)
        self.addCleanup(terminal.release)
        self.assertEqual(os.get_blocking(write), blocking, "the shell would not like that")
        os.close(write)
        for number in range(20_000):
            terminal.write(f"{number:0100}\n")
        seen = b""
        # A terminal gives its bytes to a reader bit by bit.
        while select.select([read], [], [], 0.3)[0]:
            seen += os.read(read, 65536)
        terminal.write("again\n")
        terminal.write("and again\n")
        while not seen.endswith(b"and again\n"):
            self.assertTrue(select.select([read], [], [], 10)[0], seen[-300:])
            seen += os.read(read, 65536)
        lines = seen.decode().splitlines()
        self.assertEqual(lines[-2:], ["again", "and again"])
        # One line at most is cut short, and all lines before it are there.
        whole = lines[: -3 if len(lines[-3]) < 100 else -2]
        self.assertGreater(len(whole), 10)
        self.assertEqual(whole, [f"{number:0100}" for number in range(len(whole))])

    def test_stalledPipe(self) -> None:
        """A pipe that nobody reads."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.stall(read, write)

    def test_stalledTerminal(self) -> None:
        """A terminal whose other end is stuck."""
        read, write = pty.openpty()
        self.addCleanup(os.close, read)
        tty.setraw(write)
        # Kept open: a terminal goes away when nobody has it open.
        self.addCleanup(os.close, os.dup(write))
        self.stall(read, write)

    def test_stalledSocket(self) -> None:
        """A socket, such as the journal's, that nobody reads."""
        read, write = socket.socketpair()
        self.addCleanup(read.close)
        self.stall(read.fileno(), write.detach())

    def test_heldTerminal(self) -> None:
        """A terminal that is held with Ctrl-S."""
        self.patch(logsinks, "STALL_LIMIT", 0.01)
        read, write = pty.openpty()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)
        terminal = Terminal(write)
        self.addCleanup(terminal.release)
        termios.tcflow(write, termios.TCOOFF)
        for _ in range(1000):
            terminal.write("lost\n")
        termios.tcflow(write, termios.TCOON)
        terminal.write("again\n")
        self.assertEqual(os.read(read, 100), b"again\r\n")

    def test_cut(self) -> None:
        """After a line that was cut short, the next one begins on a line of its own."""
        self.patch(logsinks, "STALL_LIMIT", 0)
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        terminal = Terminal(write)
        self.addCleanup(terminal.release)
        real = terminal._sendNow
        room = [3]

        def send(data: bytes) -> int:
            if not room:
                raise BlockingIOError
            return real(data[: room.pop()])

        self.patch(terminal, "_sendNow", send)
        for line in ("first\n", "lost\n"):
            terminal.write(line)
        room = [100]
        terminal.write("again\n")
        room = [100]
        terminal.write("and again\n")
        self.assertEqual(os.read(read, 100), b"fir\nagain\nand again\n")

    def test_file(self) -> None:
        """A file is appended to."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("before\n")
            file.flush()
            terminal = Terminal(file.fileno())
            terminal.write("a\n")
            terminal.release()
            file.write("after\n")
        with open(path) as file:
            self.assertEqual(file.read(), "before\na\nafter\n")

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
