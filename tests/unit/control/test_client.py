"""Tests of L{nanotun.control.client}, against sockets of the test's own."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nanotun.control.client import Client
from nanotun.control.lock import InstanceLock
from nanotun.control.messages import NO_RESPONSE, RESPONSE_LIMIT, errorLine, resultLine
from nanotun.errors import NotRunning, RunningError


class ClientTests(SynchronousTestCase):
    """L{Client}."""

    def setUp(self) -> None:
        # Longer than a socket's path may be.
        self.runDir = Path(self.mktemp(), "d" * 100).resolve()
        self.runDir.mkdir(parents=True)

    def serve(self, talk: Callable[[socket.socket], object]) -> None:
        """Have one connection served by C{talk}, which reads a request first."""
        listener = socket.socket(socket.AF_UNIX)
        fd = os.open(self.runDir, os.O_PATH)
        listener.bind(f"/proc/self/fd/{fd}/control.sock")
        os.close(fd)
        listener.listen()

        def run() -> None:
            connection, _ = listener.accept()
            with connection, listener:
                self.request = connection.recv(4096)
                talk(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)

    def ask(self, timeout: float = 10.0) -> object:
        """One answer."""
        with Client(str(self.runDir), timeout) as client:
            self.assertEqual(client.pid, os.getpid())
            return client.ask("status")

    def error(self, timeout: float = 10.0) -> str:
        """Why there is none."""
        return str(self.assertRaises(RunningError, self.ask, timeout))

    def test_answer(self) -> None:
        """The answer may come in pieces."""
        line = resultLine({"a": "b" * 100_000}) + b"\n"

        def talk(connection: socket.socket) -> None:
            connection.sendall(line[:7])
            connection.sendall(line[7:])

        self.serve(talk)
        self.assertEqual(self.ask(), {"a": "b" * 100_000})
        self.assertEqual(self.request, b'{"version": 1, "request": "status"}\n')

    def test_error(self) -> None:
        """The daemon's own sentence is the error."""
        self.serve(lambda connection: connection.sendall(errorLine("Not now.") + b"\n"))
        self.assertEqual(self.error(), "Not now.")

    def test_nonsense(self) -> None:
        """What makes no sense is told as such."""
        self.serve(lambda connection: connection.sendall(b"hello\n"))
        self.assertEqual(self.error(), NO_RESPONSE)

    def test_endless(self) -> None:
        """An answer without end is not waited for."""

        def talk(connection: socket.socket) -> None:
            try:
                connection.sendall(b"x" * (RESPONSE_LIMIT + 200_000))
            except OSError:
                return

        self.serve(talk)
        self.assertEqual(self.error(), NO_RESPONSE)

    def test_hangup(self) -> None:
        """Who hangs up may be stopping."""
        self.serve(lambda connection: None)
        self.assertIn("hung up without an answer", self.error())

    def test_silence(self) -> None:
        """Silence has an end, and names the process."""
        held = threading.Event()
        self.serve(lambda connection: held.wait(10))
        self.addCleanup(held.set)
        self.assertEqual(
            self.error(0.05),
            f"The daemon (process {os.getpid()}) does not answer within 0.05 s; see its log.",
        )

    def test_nobody(self) -> None:
        """Where no lock is held nobody runs: with a dead socket, a file, or nothing there."""
        path = self.runDir / "control.sock"
        for make in (lambda: None, lambda: path.write_text("x"), lambda: None):
            make()
            error = self.assertRaises(NotRunning, Client, str(self.runDir))
            self.assertEqual(str(error), f"No nanotun runs with runDir {self.runDir}.")
        (self.runDir / "journal.json").touch()
        error = self.assertRaises(NotRunning, self.ask)
        self.assertIn("'nanotun recover' takes them back", str(error))
        self.assertRaises(NotRunning, Client, str(self.runDir / "absent"))

    def test_noSocket(self) -> None:
        """Where the lock is held but nobody answers, that is what is told."""
        lock = InstanceLock(str(self.runDir), "/etc/n.yaml")
        lock.start()
        self.addCleanup(lock.stop)
        error = self.assertRaises(RunningError, Client, str(self.runDir))
        self.assertNotIsInstance(error, NotRunning)
        self.assertIn(f"nanotun runs as process {os.getpid()} since", str(error))
        self.assertIn("cannot be asked by", str(error))
        self.assertIn("(No such file or directory); its log says why.", str(error))
