"""
The machine's sockets, as sock_diag(7) tells them over a netlink socket that stays open.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from socket import AF_INET, AF_INET6

from zope.interface import implementer

from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.linux.netlink import READ_SIZE, SOCK_DIAG, openNetlink
from nanotun.owners.interfaces import ISockets
from nanotun.owners.sockdiag import (
    ALL_STATES,
    CONNECTED,
    LISTENING,
    OPEN,
    Answer,
    answers,
    askForOne,
    askForPort,
    connectionOf,
    leaves,
    sends,
    takes,
)
from nanotun.owners.values import FlowSocket, OpenConnection

#: How often one question's answers are read at most.
_READ_LIMIT = 64

#: How often if it is about all sockets: 32 KiB hold a hundred, and a machine has at most some
#: hundred thousand.
_LONG_LIMIT = 4096

#: __SO_ACCEPTCON of linux/net.h: the socket accepts connections.
_ACCEPTS = 0x10000

UNIX_SOCKETS = "/proc/self/net/unix"


@implementer(ISockets)
class KernelSockets:
    """
    Asks one question at a time and reads its answer at once: the answer is there when
    send(2) returns.

    @param interface: the name of the device that flows arrive by.
    """

    def __init__(
        self,
        interface: str,
        openSocket: Callable[[], socket.socket] = lambda: openNetlink(SOCK_DIAG),
        indexOf: Callable[[str], int] = socket.if_nametoindex,
        unixSockets: str = UNIX_SOCKETS,
    ) -> None:
        self._interface = interface
        self._openSocket = openSocket
        self._indexOf = indexOf
        self._unixSockets = unixSockets
        self._socket: socket.socket | None = None
        self._index = 0
        self._number = 0

    def start(self) -> None:
        """See L{ISockets.start}."""
        self._socket = self._openSocket()
        try:
            self._onPort(Protocol.TCP, 1, LISTENING)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """See L{ISockets.close}."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def find(self, flow: Flow) -> FlowSocket | None:
        """See L{ISockets.find}."""
        _, protocol, local, remote = flow
        if not self._index:
            # At our start the device does not exist yet.
            with contextlib.suppress(OSError):
                self._index = self._indexOf(self._interface)
        index = self._index
        for answer in self._ask(lambda number: askForOne(number, protocol, local, remote, index)):
            if sends(answer, protocol, local, remote):
                return answer.socket
        return None

    def sharing(self, flow: Flow) -> list[FlowSocket]:
        """See L{ISockets.sharing}."""
        local, remote = flow.source, flow.destination
        return [
            answer.socket
            for answer in self._onPort(flow.protocol, local.port, ALL_STATES)
            if sends(answer, flow.protocol, local, remote) and takes(answer, local.host)
        ]

    def listener(self, endpoint: Endpoint) -> FlowSocket | None:
        """See L{ISockets.listener}."""
        # For a connection that does not exist the kernel finds the listening socket.
        anyone = Endpoint("::" if ":" in endpoint.host else "0.0.0.0", 0)
        for answer in self._ask(
            lambda number: askForOne(number, Protocol.TCP, endpoint, anyone, 0)
        ):
            return answer.socket
        return None

    def listening(self, endpoint: Endpoint) -> list[int]:
        """See L{ISockets.listening}."""
        return [
            answer.socket.inode
            for answer in self._onPort(Protocol.TCP, endpoint.port, LISTENING)
            if answer.socket.inode and takes(answer, endpoint.host)
        ]

    def listeningAt(self, path: str) -> list[int]:
        """See L{ISockets.listeningAt}."""
        # proc(5), /proc/net/unix: the flags are the fourth field, the inode is the
        # seventh and the path, which may hold spaces, the rest.
        found = []
        try:
            with open(self._unixSockets, encoding="utf-8", errors="surrogateescape") as lines:
                for line in lines:
                    fields = line.rstrip("\n").split(maxsplit=7)
                    if len(fields) == 8 and fields[7] == path and int(fields[3], 16) & _ACCEPTS:
                        found.append(int(fields[6]))
        except (OSError, ValueError):
            return []
        return found

    def outward(self) -> list[FlowSocket]:
        """See L{ISockets.outward}."""
        asked = ((Protocol.TCP, OPEN), (Protocol.UDP, ALL_STATES))
        return [
            answer.socket
            for protocol, states in asked
            for answer in self._onPort(protocol, 0, states, _LONG_LIMIT)
            if leaves(answer)
        ]

    def connections(self) -> list[OpenConnection]:
        """See L{ISockets.connections}."""
        answered = self._onPort(Protocol.TCP, 0, CONNECTED, _LONG_LIMIT)
        return [connectionOf(each) for each in answered if each.socket.inode]

    def everything(self, protocol: Protocol) -> list[Answer]:
        """
        All sockets of a protocol, without those that only listen for connections.

        @raise OSError: as from L{ISockets.find}.
        """
        states = OPEN if protocol is Protocol.TCP else ALL_STATES
        return self._onPort(protocol, 0, states, _LONG_LIMIT)

    def _onPort(
        self, protocol: Protocol, port: int, states: int, reads: int = _READ_LIMIT
    ) -> list[Answer]:
        found: list[Answer] = []
        for family in (AF_INET, AF_INET6):
            found += self._ask(
                lambda number, family=family: askForPort(  # type: ignore[misc]
                    number, protocol, family, port, states
                ),
                dump=True,
                reads=reads,
            )
        return found

    def _ask(
        self, request: Callable[[int], bytes], dump: bool = False, reads: int = _READ_LIMIT
    ) -> list[Answer]:
        """
        Ask one question.

        @param request: makes the message from its sequence number.
        @param dump: whether there is more than one answer.
        @param reads: see L{_READ_LIMIT}.
        """
        asked = self._socket
        if asked is None:
            return []
        # 0 is the kernel's own number.
        self._number = self._number % 0xFFFFFFFF + 1
        asked.send(request(self._number))
        found: list[Answer] = []
        for _ in range(reads):
            try:
                data = asked.recv(READ_SIZE)
            except BlockingIOError:
                break
            for answer in answers(data, self._number):
                if answer is None:
                    return found
                found.append(answer)
                if not dump:
                    return found
        return found
