"""
Passages between this machine's network and a cell's: a connection to a port on one side is joined
to a connection to a port on the other.

Who listens there is looked at again and again, and a passage is open while somebody does: a closed
port is refused, as it would be without a passage between.  Only the kernel and the native library
touch the bytes.
"""

from __future__ import annotations

import contextlib
import errno
import resource
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.cell import ports
from nanotun.cell.channel import Channel, ChannelClosed
from nanotun.errors import RoutingError
from nanotun.flow import Endpoint
from nanotun.interfaces import IPart
from nanotun.linux.listeners import isListening, openAsking

#: Where a listener is looked for, and connected to.
LOOPBACKS = ("127.0.0.1", "::1")

#: Seconds between two looks, which take microseconds.
LOOK_PAUSE = 0.1

#: Connections that the kernel keeps until they are accepted.
BACKLOG = 1024

#: Connections that are accepted before others get their turn.
ACCEPTS = 32

#: Connections at a time.  Each has two file descriptors, and no buffer while it is idle.
COUPLES_LIMIT = 8192

#: Of the descriptors that this process may have, a part for each connection: half of them are left
#: for the tunnel.
DESCRIPTOR_PART = 4

#: Sockets of the cell that wait for connections, or are asked for: enough that a crowd need not
#: wait for each of them, and few enough that all messages fit the channel.
STOCK = 32

#: Seconds for the helper to answer: it may just end what the command has left.
ANSWER_LIMIT = 10.0

#: Seconds for the last bytes of connections whose command has ended, and between two looks.
LAST_LIMIT = 1.5
LAST_PAUSE = 0.02

_RESET = struct.pack("ii", 1, 0)

#: The machine has no such address, or none of that family.
_NO_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

#: A link-local address has no interface, or one that is not there.
_NO_INTERFACE = (errno.EINVAL, errno.ENODEV)


class Couples(Protocol):
    """Joins sockets, as L{nanotun.engine.couples.NativeCouples} does."""

    def join(self, one: socket.socket, other: socket.socket) -> None:
        """
        Carry bytes between two sockets, which may still be connecting, and close them.

        @raise OSError: the library cannot; both are reset.
        """

    def count(self) -> int:
        """How many couples have not ended."""


class Side(Protocol):
    """One of the two networks."""

    def listener(self, host: str, port: int) -> socket.socket:
        """
        A socket that is bound there.

        @raise OSError: it cannot be.
        """

    def asking(self) -> socket.socket:
        """
        A socket to ask for listeners there with.

        @raise OSError: there is none.
        """

    def take(self) -> socket.socket | None:
        """A socket to connect there with; L{None} if there is none at the moment."""

    def giveBack(self, sock: socket.socket) -> None:
        """Take back what was not connected."""


class MachineSide:
    """This machine's network."""

    def listener(self, host: str, port: int) -> socket.socket:
        """See L{Side.listener}."""
        return ports.boundSocket(host, port)

    def asking(self) -> socket.socket:
        """See L{Side.asking}."""
        return openAsking()

    def take(self) -> socket.socket | None:
        """See L{Side.take}."""
        with contextlib.suppress(OSError):
            return ports.freeSocket()
        return None

    def giveBack(self, sock: socket.socket) -> None:
        """See L{Side.giveBack}."""
        sock.close()


class CellSide:
    """
    The cell's network.

    @param channel: to the helper, which answers nobody else while this asks and waits.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stock: list[socket.socket] = []
        self._asked = 0

    def listener(self, host: str, port: int) -> socket.socket:
        """See L{Side.listener}."""
        return self._ask(ports.LISTENER, host, port)

    def asking(self) -> socket.socket:
        """See L{Side.asking}."""
        return self._ask(ports.ASKING)

    def take(self) -> socket.socket | None:
        """See L{Side.take}."""
        with contextlib.suppress(ChannelClosed):  # nanotun ends, too.
            while self._asked + len(self._stock) < STOCK:
                self._channel.send(make=[ports.STREAM])
                self._asked += 1
        return self._stock.pop() if self._stock else None

    def giveBack(self, sock: socket.socket) -> None:
        """See L{Side.giveBack}."""
        self._stock.append(sock)

    def arrived(self, message: dict[str, Any], fd: int | None) -> bool:
        """
        Take what the helper has sent after C{take} had asked for it.

        @return: whether that is a socket.  There is none without descriptors, here or there.
        """
        self._asked -= 1
        try:
            self._stock.append(ports.taken(message, fd))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close what waits."""
        while self._stock:
            self._stock.pop().close()

    def _ask(self, *request: object) -> socket.socket:
        try:
            return ports.ask(self._channel, request, ANSWER_LIMIT)
        except (ChannelClosed, TimeoutError):
            raise RoutingError(
                "the process that makes the command's network ended or hangs; look above for "
                "what it said, and try again."
            ) from None


class Port(NamedTuple):
    """
    One passage.

    @ivar option: the words that asked for it.
    @ivar hosts: literal addresses to listen at; where there are several, the machine may lack all
        but the first.
    @ivar entry: the port to listen at.
    @ivar exit: the port of the other side.
    @ivar isInward: whether it leads into the cell.
    """

    option: str
    hosts: tuple[str, ...]
    entry: int
    exit: int
    isInward: bool


@implementer(IReadDescriptor, ILoggingContext)
class Door:
    """
    One address of a passage.

    @param sock: bound.
    @param side: where its connections lead.
    @param join: joins a connection to a socket of C{side}.
    @param option: the words that asked for it.
    """

    _log = Logger()

    def __init__(
        self,
        sock: socket.socket,
        side: Side,
        join: Callable[[socket.socket, socket.socket], None],
        reactor: Any,
        option: str,
    ) -> None:
        self._socket = sock
        self._side = side
        self._join = join
        self._reactor = reactor
        self._option = option
        self._isOpen = False
        self._failed = False

    def set(self, isOpen: bool) -> None:
        """Accept connections, or have the kernel refuse them."""
        if isOpen and not self._isOpen:
            self._open()
        elif self._isOpen and not isOpen:
            self._isOpen = False
            self._reactor.removeReader(self)
            with contextlib.suppress(OSError):
                ports.refuse(self._socket)
        self.goOn()

    def goOn(self) -> None:
        """Accept more."""
        if self._isOpen:
            self._reactor.addReader(self)

    def _open(self) -> None:
        try:
            ports.listen(self._socket, BACKLOG)
        except OSError as error:
            if not self._failed:
                self._log.error(
                    "{option} has no effect: {place} cannot be listened at ({why}); end whatever "
                    "listens there.",
                    option=self._option,
                    place=Endpoint(*self._socket.getsockname()[:2]),
                    why=error.strerror,
                )
            self._failed = True
        else:
            self._isOpen, self._failed = True, False

    def close(self) -> None:
        """Give the port back."""
        self._reactor.removeReader(self)
        self._socket.close()

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "passage"

    def doRead(self) -> None:
        """See L{IReadDescriptor.doRead}."""
        for _ in range(ACCEPTS):
            other = self._side.take()
            if other is None:
                # The next socket, or the next look, has it go on.
                self._reactor.removeReader(self)
                return
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                self._side.giveBack(other)
                return
            except OSError:
                # It has ended already, or there are no more descriptors.
                self._side.giveBack(other)
                self._reactor.removeReader(self)
                return
            self._join(connection, other)

    def connectionLost(self, reason: Failure) -> None:
        """See L{IReadDescriptor.connectionLost}; the reactor is stopping, so nothing to do."""


class Passage:
    """
    One L{Port} that is there.

    @param exits: where it leads.
    @param asking: asks for listeners there.
    """

    def __init__(
        self,
        port: Port,
        entries: Side,
        exits: Side,
        asking: socket.socket,
        couples: Couples,
        reactor: Any,
    ) -> None:
        """@raise RoutingError: its addresses cannot be had; with one sentence."""
        self._port = port
        self._asking = asking
        self._couples = couples
        self._hosts: list[str] = []
        self.doors: list[Door] = []
        for host in port.hosts:
            try:
                sock = entries.listener(host, port.entry)
            except OSError as error:
                if host != port.hosts[0] and error.errno in _NO_ADDRESS:
                    continue
                for door in self.doors:
                    door.close()
                raise RoutingError(_refused(port, host, error)) from None
            self.doors.append(Door(sock, exits, self._join, reactor, port.option))

    def look(self) -> None:
        """Be open if somebody listens at the other side."""
        # If the kernel does not say, the last answer counts.
        with contextlib.suppress(OSError):
            self._hosts = [
                host for host in LOOPBACKS if isListening(self._asking, host, self._port.exit)
            ]
        for door in self.doors:
            door.set(bool(self._hosts) and self._couples.count() < _limit())

    def _join(self, connection: socket.socket, other: socket.socket) -> None:
        for host in self._hosts:
            try:
                ports.connect(other, host, self._port.exit)
            except OSError:
                continue
            # Without descriptors for it, both are reset.
            with contextlib.suppress(OSError):
                self._couples.join(connection, other)
            return
        other.close()
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.close()


def _limit() -> int:
    # The native library raises it to what is allowed.
    return min(COUPLES_LIMIT, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // DESCRIPTOR_PART)


def _refused(port: Port, host: str, error: OSError) -> str:
    place = Endpoint(host, port.entry)
    where = "" if port.isInward else " in the command's network"
    advice = "choose another port"
    if error.errno == errno.EACCES:
        advice = "ports below 1024 are root's, so choose another one"
    elif error.errno in _NO_ADDRESS:
        advice = "give an address of this machine"
    elif error.errno in _NO_INTERFACE:
        advice = "give a link-local address with its interface, as in [fe80::1%eth0]"
    return f"{port.option}: {place} cannot be listened at{where} ({error.strerror}); {advice}."


@implementer(IPart)
class Passages:
    """
    All passages of a cell.

    @param cell: the cell's side.
    """

    name = "the published ports"

    def __init__(
        self,
        wanted: Iterable[Port],
        cell: CellSide,
        couples: Couples,
        reactor: Any,
        machine: Side | None = None,
    ) -> None:
        self._wanted = tuple(wanted)
        self._cell = cell
        self._machine = MachineSide() if machine is None else machine
        self._couples = couples
        self._reactor = reactor
        self._passages: list[Passage] = []
        self._asking: list[socket.socket] = []
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor

    def start(self) -> None:
        """See L{IPart.start}."""
        try:
            here, there = self._machine.asking(), self._cell.asking()
            self._asking = [here, there]
            for port in self._wanted:
                sides = (self._machine, self._cell), (self._cell, self._machine)
                entries, exits = sides[0 if port.isInward else 1]
                asking = there if port.isInward else here
                made = Passage(port, entries, exits, asking, self._couples, self._reactor)
                self._passages.append(made)
        except OSError as error:
            self._close()
            raise RoutingError(
                f"no port can be published ({error.strerror}); look at the limit of open files."
            ) from None
        except RoutingError:
            self._close()
            raise
        self._loop.start(LOOK_PAUSE)

    def stop(self) -> Deferred[None]:
        """See L{IPart.stop}.  What is under way has a moment to arrive."""
        self._loop.stop()
        self._close()
        stopped: Deferred[None] = Deferred()
        self._wait(stopped, self._reactor.seconds() + LAST_LIMIT)
        return stopped

    def arrived(self, message: dict[str, Any], fd: int | None) -> None:
        """Take a socket that the helper has made."""
        if not self._cell.arrived(message, fd):
            # The next look asks again; to do so at once could go on and on.
            return
        for passage in self._passages:
            for door in passage.doors:
                door.goOn()

    def _look(self) -> None:
        for passage in self._passages:
            passage.look()

    def _wait(self, stopped: Deferred[None], end: float) -> None:
        if self._couples.count() and self._reactor.seconds() < end:
            self._reactor.callLater(LAST_PAUSE, self._wait, stopped, end)
        else:
            stopped.callback(None)

    def _close(self) -> None:
        while self._passages:
            for door in self._passages.pop().doors:
                door.close()
        while self._asking:
            self._asking.pop().close()
        self._cell.close()
