"""Tests of L{nanotun.cell.ports}: real sockets of the loopback."""

from __future__ import annotations

import errno
import os
import socket

from twisted.trial.unittest import SynchronousTestCase

from nanotun.cell import ports
from nanotun.cell.channel import Channel, makePair
from nanotun.cell.ports import (
    ASKING,
    LISTENER,
    STREAM,
    SocketMakers,
    boundSocket,
    connect,
    freeSocket,
    listen,
    refuse,
)
from nanotun.linux.listeners import isListening


def freePort() -> int:
    """A port of the loopback that nobody has.  One that the kernel chooses is not kept."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


class SocketsTests(SynchronousTestCase):
    """L{boundSocket}, L{freeSocket} and L{connect}."""

    def test_bound(self) -> None:
        """A bound socket refuses connections until it listens, and has the port to itself."""
        made = boundSocket("127.0.0.1", freePort())
        self.addCleanup(made.close)
        place = made.getsockname()
        self.assertRaises(ConnectionRefusedError, socket.create_connection, place)
        listen(made, 1)
        socket.create_connection(place).close()
        error = self.assertRaises(OSError, boundSocket, *place)
        self.assertEqual(error.errno, errno.EADDRINUSE)
        self.assertFalse(made.getblocking())

    def test_interface(self) -> None:
        """An address may have an interface, and one that is not there is an error."""
        index = socket.if_nametoindex("lo")
        for scope in ("lo", str(index)):
            self.assertEqual(ports._place(f"fe80::1%{scope}", 80), ("fe80::1", 80, 0, index))
        error = self.assertRaises(OSError, boundSocket, "fe80::1%none", 80)
        self.assertEqual(error.errno, errno.ENODEV)

    def test_kept(self) -> None:
        """
        While it refuses, the port is nobody else's, whatever they share; and it can listen again
        beside connections that go on or are just over.
        """
        made = boundSocket("127.0.0.1", freePort())
        self.addCleanup(made.close)
        place = made.getsockname()
        for _ in range(3):
            for host in ("127.0.0.1", "0.0.0.0"):
                error = self.assertRaises(OSError, socket.create_server, (host, place[1]))
                self.assertEqual(error.errno, errno.EADDRINUSE)
            listen(made, 2)
            for number in range(2):
                outer = socket.create_connection(place)
                self.addCleanup(outer.close)
                inner, _ = made.accept()
                self.addCleanup(inner.close)
                if number:
                    inner.close()
            refuse(made)
        # As the next run does.
        made.close()
        boundSocket(*place).close()

    def test_connect(self) -> None:
        """A free socket connects to addresses of both families; the peer sees its own."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        with freeSocket() as made:
            self.assertFalse(made.getblocking())
            connect(made, "127.0.0.1", listener.getsockname()[1])
            other, (host, _) = listener.accept()
            other.close()
            self.assertEqual(host, "127.0.0.1")

    def test_noIPv6(self) -> None:
        """Where the kernel has no IPv6, a free socket is one of IPv4."""
        real = socket.socket

        def make(family: int, kind: int) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "no IPv6")
            return real(family, kind)

        self.patch(socket, "socket", make)
        with freeSocket() as made:
            self.assertEqual(made.family, socket.AF_INET)
            self.assertRaises(OSError, connect, made, "::1", 9)


class MakersTests(SynchronousTestCase):
    """L{SocketMakers} and L{ports.ask}, over a channel."""

    def setUp(self) -> None:
        """Make both ends."""
        self.channel, theirs = makePair()
        self.helper = Channel(theirs)
        self.addCleanup(self.helper.close)
        self.addCleanup(self.channel.close)
        self.makers = SocketMakers(self.helper)

    def made(self, *request: object) -> socket.socket:
        """What the helper makes."""
        self.assertTrue(self.makers.answer({"make": list(request)}))
        return ports.taken(*self.channel.receive(5))

    def test_kinds(self) -> None:
        """Each kind of socket arrives."""
        with self.made(LISTENER, "127.0.0.1", freePort()) as made:
            place = made.getsockname()
            self.assertEqual(place[0], "127.0.0.1")
            with self.made(ASKING) as asking:
                self.assertFalse(isListening(asking, *place))
                listen(made, 1)
                self.assertTrue(isListening(asking, *place))
            with self.made(STREAM) as free:
                connect(free, *place)
                made.accept()[0].close()

    def test_refused(self) -> None:
        """What cannot be made is the error here."""
        error = self.assertRaises(OSError, self.made, LISTENER, "192.0.2.1", 9)
        self.assertEqual(error.errno, errno.EADDRNOTAVAIL)
        self.assertEqual(error.strerror, os.strerror(errno.EADDRNOTAVAIL))

    def test_others(self) -> None:
        """Other messages are left to others."""
        self.assertFalse(self.makers.answer({"signal": 15}))

    def test_ask(self) -> None:
        """To ask is to wait for the answer."""
        self.helper.send(made=errno.EPERM)
        error = self.assertRaises(OSError, ports.ask, self.channel, [STREAM], 5)
        self.assertEqual(error.errno, errno.EPERM)
        self.assertEqual(self.helper.receive(5), ({"make": [STREAM]}, None))
        self.assertRaises(TimeoutError, ports.ask, self.channel, [STREAM], 0.01)
