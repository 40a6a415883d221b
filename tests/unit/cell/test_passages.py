"""Tests of L{nanotun.cell.passages}: real sockets of the loopback, in one network."""

from __future__ import annotations

import errno
import os
import resource
import socket
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.cell import passages, ports
from nanotun.cell.channel import Channel, makePair
from nanotun.cell.passages import (
    LAST_LIMIT,
    LOOK_PAUSE,
    STOCK,
    CellSide,
    MachineSide,
    Passages,
    Port,
)
from nanotun.cell.ports import SocketMakers
from nanotun.errors import RoutingError


class ReadingClock(Clock):
    """A clock that keeps readers."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: object) -> None:
        """Watch a reader."""
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        """Watch it no more."""
        if reader in self.readers:
            self.readers.remove(reader)


class KeptCouples:
    """Keeps what is joined."""

    def __init__(self) -> None:
        self.joined: list[tuple[socket.socket, socket.socket]] = []

    def join(self, one: socket.socket, other: socket.socket) -> None:
        """Keep two sockets."""
        self.joined.append((one, other))

    def count(self) -> int:
        """How many there are."""
        return len(self.joined)

    def end(self) -> None:
        """Close them all."""
        while self.joined:
            for each in self.joined.pop():
                each.close()


class PassagesTests(SynchronousTestCase):
    """L{Passages}; the helper answers when the test says so."""

    def setUp(self) -> None:
        """A cell that is no network of its own, and a port in it that is free."""
        ours, theirs = makePair()
        self.addCleanup(ours.close)
        self.helper = Channel(theirs)
        self.addCleanup(self.helper.close)
        self.channel = ours
        self.cell = CellSide(ours)
        self.patch(ports, "ask", self.ask)
        self.clock = ReadingClock()
        self.couples = KeptCouples()
        self.addCleanup(self.couples.end)
        with socket.create_server(("127.0.0.1", 0)) as one:
            self.inner = one.getsockname()[1]
            with socket.create_server(("127.0.0.1", 0)) as other:
                self.outer = other.getsockname()[1]
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)  # type: ignore[arg-type]
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)  # type: ignore[arg-type]

    def ask(self, channel: Channel, request: Any, timeout: float) -> socket.socket:
        """The helper's answer at once."""
        return ports._make(*request)

    def answer(self) -> None:
        """Let the helper make what it was asked for."""
        makers = SocketMakers(self.helper)
        for _ in range(STOCK):
            makers.answer(self.helper.receive(5)[0])
            self.passages.arrived(*self.channel.receive(5))

    def start(self, *hosts: str, isInward: bool = True) -> None:
        """Start with one passage."""
        port = Port("--it", hosts or ("127.0.0.1",), self.outer, self.inner, isInward)
        self.passages = Passages([port], self.cell, self.couples, self.clock)
        self.passages.start()
        self.addCleanup(self.stopped)

    def stopped(self) -> None:
        """End what the test has left."""
        self.couples.end()
        if self.passages._loop.running:
            self.successResultOf(self.passages.stop())

    def listen(self, host: str = "127.0.0.1") -> socket.socket:
        """Listen behind the passage."""
        made = socket.create_server((host, self.inner))
        self.addCleanup(made.close)
        self.clock.advance(LOOK_PAUSE)
        return made

    def connect(self) -> socket.socket:
        """Connect to it."""
        made = socket.create_connection(("127.0.0.1", self.outer), 5)
        self.addCleanup(made.close)
        return made

    def read(self) -> None:
        """Let each reader work that something waits for."""
        for reader in tuple(self.clock.readers):
            reader.doRead()

    def test_opensAndCloses(self) -> None:
        """It is open while somebody listens, and refuses connections otherwise."""
        self.start()
        self.assertRaises(ConnectionRefusedError, self.connect)
        listener = self.listen()
        self.connect()
        (door,) = self.clock.readers
        verifyObject(IReadDescriptor, door)
        self.assertEqual((door.logPrefix(), door.fileno() > 2), ("passage", True))
        listener.close()
        self.clock.advance(LOOK_PAUSE)
        self.assertRaises(ConnectionRefusedError, self.connect)
        self.assertEqual(self.clock.readers, [])
        self.listen()
        self.connect()

    def test_joins(self) -> None:
        """A connection waits for a socket of the cell's, and both are joined."""
        self.start()
        listener = self.listen()
        made = self.connect()
        self.read()
        self.assertEqual((self.couples.count(), self.clock.readers), (0, []))
        self.answer()
        self.read()
        ((one, other),) = self.couples.joined
        self.assertEqual(one.getpeername(), made.getsockname())
        inside, (host, _) = listener.accept()
        self.assertEqual((host, other.getpeername()[1]), ("127.0.0.1", self.inner))
        inside.close()
        # What was not needed is there for the next one.
        self.connect()
        self.read()
        self.assertEqual(self.couples.count(), 2)

    def test_outward(self) -> None:
        """The other way round the cell's side listens, and nobody has to be asked for sockets."""
        self.start(isInward=False)
        self.listen()
        self.connect()
        self.read()
        self.assertEqual(self.couples.count(), 1)

    def test_gone(self) -> None:
        """Who listens no more when a connection comes makes it a reset."""
        self.start(isInward=False)
        self.listen()
        made = self.connect()

        def refuse(sock: socket.socket, host: str, port: int) -> None:
            raise ConnectionRefusedError

        self.patch(ports, "connect", refuse)
        self.read()
        self.assertRaises(ConnectionResetError, made.recv, 1)
        self.assertEqual(self.couples.count(), 0)

    def test_limit(self) -> None:
        """It is closed while there are too many connections."""
        self.patch(passages, "COUPLES_LIMIT", 1)
        self.start(isInward=False)
        self.listen()
        self.connect()
        self.read()
        self.clock.advance(LOOK_PAUSE)
        self.assertRaises(ConnectionRefusedError, self.connect)
        self.couples.end()
        self.clock.advance(LOOK_PAUSE)
        self.connect()

    def test_noDescriptors(self) -> None:
        """Without descriptors a connection waits for the next look."""
        self.start(isInward=False)
        self.listen()
        self.connect()
        (door,) = self.clock.readers
        taken = MachineSide.take
        self.patch(MachineSide, "take", lambda self: None)
        self.read()
        self.assertEqual(self.clock.readers, [])
        self.patch(MachineSide, "take", taken)
        self.clock.advance(LOOK_PAUSE)
        self.assertEqual(self.clock.readers, [door])
        self.read()
        self.assertEqual(self.couples.count(), 1)

    def test_notMade(self) -> None:
        """Without descriptors for a socket of the cell's, the next look asks again, not before."""
        self.start()
        self.listen()
        self.connect()
        (door,) = self.clock.readers
        self.read()
        for _ in range(STOCK // 2):
            self.passages.arrived({"made": errno.EMFILE}, None)
            # The kernel drops what this process has no descriptor for.
            self.passages.arrived({"made": 0}, None)
        self.assertEqual(self.clock.readers, [])
        self.clock.advance(LOOK_PAUSE)
        self.assertEqual(self.clock.readers, [door])

    def test_fewDescriptors(self) -> None:
        """Half of the descriptors that this process may have are left for the tunnel."""
        self.patch(resource, "getrlimit", lambda kind: (8, 8))
        self.start(isInward=False)
        self.listen()
        for _ in range(2):
            self.connect()
            self.read()
            self.clock.advance(LOOK_PAUSE)
        self.assertRaises(ConnectionRefusedError, self.connect)

    def test_addresses(self) -> None:
        """The machine may lack all addresses but the first."""
        real = ports.boundSocket

        def bound(host: str, port: int) -> socket.socket:
            if ":" in host:
                raise OSError(errno.EAFNOSUPPORT, "no IPv6")
            return real(host, port)

        self.patch(ports, "boundSocket", bound)
        self.start("127.0.0.1", "::1")
        self.listen()
        self.assertEqual(len(self.clock.readers), 1)

    def test_refused(self) -> None:
        """An address that cannot be had is one sentence, and nothing is left."""
        for number, inward, sentence in (
            (errno.EADDRINUSE, True, "cannot be listened at (Address already in use); choose "
             "another port."),
            (errno.EADDRINUSE, False, "cannot be listened at in the command's network (Address "
             "already in use); choose another port."),
            (errno.EACCES, True, "cannot be listened at (Permission denied); ports below 1024 are "
             "root's, so choose another one."),
            (errno.EADDRNOTAVAIL, True, "cannot be listened at (Cannot assign requested address); "
             "give an address of this machine."),
            (errno.ENODEV, True, "cannot be listened at (No such device); give a link-local "
             "address with its interface, as in [fe80::1%eth0]."),
        ):  # fmt: skip

            def refuse(host: str, port: int, number: int = number) -> socket.socket:
                raise OSError(number, os.strerror(number))

            self.patch(ports, "boundSocket", refuse)
            port = Port("--it", ("127.0.0.1", "::1"), 80, 81, inward)
            made = Passages([port], self.cell, self.couples, self.clock)
            error = self.assertRaises(RoutingError, made.start)
            self.assertEqual(str(error), f"--it: 127.0.0.1:80 {sentence}")
            self.assertEqual((made._passages, made._asking), ([], []))

    def test_failed(self) -> None:
        """A port that cannot be listened at meanwhile is told once, and tried again."""
        self.start()
        real = ports.listen

        def fail(sock: socket.socket, backlog: int) -> None:
            raise OSError(errno.EADDRINUSE, "in use")

        self.patch(ports, "listen", fail)
        self.listen()
        self.clock.advance(LOOK_PAUSE)
        self.assertEqual(self.clock.readers, [])
        self.patch(ports, "listen", real)
        errors = [event for event in self.logged if event["log_level"].name == "error"]
        self.assertEqual(len(errors), 1)
        self.assertEqual(errors[0]["option"], "--it")
        self.clock.advance(LOOK_PAUSE)
        self.assertEqual(len(self.clock.readers), 1)

    def test_stop(self) -> None:
        """At the end the ports are closed, and what is under way has a moment."""
        for ends in (True, False):
            self.start(isInward=False)
            self.listen()
            self.connect()
            self.read()
            stopped = self.passages.stop()
            self.assertRaises(ConnectionRefusedError, self.connect)
            self.assertNoResult(stopped)
            if ends:
                self.couples.end()
                self.clock.advance(passages.LAST_PAUSE)
            else:
                for _ in range(100):
                    self.clock.advance(LAST_LIMIT / 100)
                self.clock.advance(LAST_LIMIT)
            self.successResultOf(stopped)
            self.doCleanups()
            self.setUp()

    def test_helperGone(self) -> None:
        """If the helper ends at the start, that is one sentence."""

        def gone(*arguments: object) -> socket.socket:
            raise TimeoutError

        self.patch(ports, "ask", gone)
        made = Passages([], self.cell, self.couples, self.clock)
        error = self.assertRaises(RoutingError, made.start)
        self.assertIn("the process that makes the command's network ended or hangs", str(error))
