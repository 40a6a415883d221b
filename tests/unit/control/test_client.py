"""Tests of L{nanotun.control.client} against a real socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.control.client import Client
from nanotun.control.lock import InstanceLock
from nanotun.control.messages import NO_RESPONSE, RESPONSE_LIMIT, errorLine, resultLine
from nanotun.errors import NotRunning, RunningError


class ClientTests(SynchronousTestCase):
    """L{Client}."""

    def setUp(self) -> None:
        # Longer than the limit for a socket's path.
        self.runDir = Path(self.mktemp(), "d" * 100).resolve()
        self.runDir.mkdir(parents=True)

    def serve(self, talk: Callable[[socket.socket], object]) -> None:
        """Accept one connection, read its request and call C{talk}."""
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
        """Ask for the status."""
        with Client(str(self.runDir), timeout) as client:
            self.assertEqual(client.pid, os.getpid())
            return client.ask("status")

    def error(self, timeout: float = 10.0) -> str:
        """The error of a request that must fail."""
        return str(self.assertRaises(RunningError, self.ask, timeout))

    def test_answer(self) -> None:
        """The answer may arrive in pieces."""
        line = resultLine({"a": "b" * 100_000}) + b"\n"

        def talk(connection: socket.socket) -> None:
            connection.sendall(line[:7])
            connection.sendall(line[7:])

        self.serve(talk)
        self.assertEqual(self.ask(), {"a": "b" * 100_000})
        self.assertEqual(self.request, b'{"version": 1, "request": "status"}\n')

    def test_otherUser(self) -> None:
        """An answer of another user than root in the daemon's place is not believed."""
        if os.geteuid() != 0:
            raise SkipTest("only root can become another user")
        with socket.socket(socket.AF_UNIX) as listener:
            fd = os.open(self.runDir, os.O_PATH)
            listener.bind(f"/proc/self/fd/{fd}/control.sock")
            os.close(fd)
            # The kernel notes whose socket it is when it begins to listen.
            os.seteuid(65534)
            try:
                listener.listen()
            finally:
                os.seteuid(0)
            said = str(self.assertRaises(RunningError, Client, str(self.runDir)))
        self.assertIn(f"{self.runDir}/control.sock is not trusted", said)
        self.assertIn("65534", said)

    def test_error(self) -> None:
        """The error has the daemon's own sentence."""
        self.serve(lambda connection: connection.sendall(errorLine("Not now.") + b"\n"))
        self.assertEqual(self.error(), "Not now.")

    def test_nonsense(self) -> None:
        """An answer that is not of this protocol has an error of its own."""
        self.serve(lambda connection: connection.sendall(b"hello\n"))
        self.assertEqual(self.error(), NO_RESPONSE)

    def test_endless(self) -> None:
        """An answer that never ends is given up at a limit."""

        def talk(connection: socket.socket) -> None:
            try:
                connection.sendall(b"x" * (RESPONSE_LIMIT + 200_000))
            except OSError:
                return

        self.serve(talk)
        self.assertEqual(self.error(), NO_RESPONSE)

    def test_hangup(self) -> None:
        """If the daemon hangs up, the error says that it may be stopping."""
        self.serve(lambda connection: None)
        self.assertIn("hung up without an answer", self.error())

    def test_silence(self) -> None:
        """Waiting for an answer ends with an error that names the process."""
        held = threading.Event()
        self.serve(lambda connection: held.wait(10))
        self.addCleanup(held.set)
        self.assertEqual(
            self.error(0.05),
            f"The daemon (process {os.getpid()}) does not answer within 0.05 s; see its log.",
        )

    def test_nobody(self) -> None:
        """Without a held lock nothing runs, whatever is in place of the socket."""
        path = self.runDir / "control.sock"
        for make in (lambda: None, lambda: path.write_text("x"), lambda: None):
            make()
            error = self.assertRaises(NotRunning, Client, str(self.runDir))
            self.assertEqual(str(error), f"No nanotun runs with runDir {self.runDir}.")
        (self.runDir / "journal.json").touch()
        error = self.assertRaises(NotRunning, self.ask)
        self.assertIn(f"'nanotun recover --run-dir {self.runDir}' takes them back", str(error))
        self.assertRaises(NotRunning, Client, str(self.runDir / "absent"))

    def test_noSocket(self) -> None:
        """If the lock is held but the socket is missing, the error says both."""
        lock = InstanceLock(str(self.runDir), "/etc/n.yaml")
        lock.start()
        self.addCleanup(lock.stop)
        error = self.assertRaises(RunningError, Client, str(self.runDir))
        self.assertNotIsInstance(error, NotRunning)
        self.assertIn(f"nanotun runs as process {os.getpid()} since", str(error))
        self.assertIn("cannot be asked by", str(error))
        self.assertIn("(No such file or directory); its log says why.", str(error))
