"""
The control socket: answers C{nanotun status} and its like.

It is always there, as only root, or whoever the daemon runs as, can open it: its mode
is 0600 before it listens, and each peer's uid is looked at besides (SO_PEERCRED,
unix(7)).  A daemon that cannot make it warns and carries on without.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.control.messages import REQUEST_LIMIT, errorLine, readRequest, resultLine
from nanotun.errors import NanotunError
from nanotun.interfaces import IPart
from nanotun.rundir import SOCKET

#: Connections at a time; a user has one or two terminals, and a monitor.
CONNECTION_LIMIT = 16

#: Seconds that a connection may say nothing, longer than between two looks of
#: C{nanotun status --watch}.
IDLE_TIME = 60.0

#: Bytes of C{sun_path} without its end (unix(7)).
PATH_LIMIT = 107

#: Answers a request: with what JSON can say, now or later.
Handler = Callable[[], Any]


def peerUid(transport: Any) -> int:
    """The uid of who connected, as the kernel noted it then (C{struct ucred})."""
    credentials = transport.socket.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


class ControlProtocol(LineOnlyReceiver, TimeoutMixin):
    """
    One connection.  Answers requests one at a time, in their order; what comes before
    the answer to an earlier one waits.
    """

    delimiter = b"\n"
    MAX_LENGTH = REQUEST_LIMIT
    factory: ControlFactory
    transport: Any

    _log = Logger()
    _waiting: Deferred[Any] | None = None

    def connectionMade(self) -> None:
        """See L{Protocol.connectionMade}."""
        self.setTimeout(IDLE_TIME)

    def lineReceived(self, line: bytes) -> None:
        """See L{LineOnlyReceiver.lineReceived}."""
        if self._waiting is not None:
            # No client of ours does so, and nothing is to be queued without end.
            self.sendLine(errorLine("One request at a time, please."))
            self.transport.loseConnection()
            return
        # The request's own time is not the peer's.
        self.setTimeout(None)
        waiting = self._waiting = maybeDeferred(self._answer, line)
        waiting.addCallbacks(resultLine, self._failed)
        waiting.addErrback(self._failed)
        waiting.addCallback(self._send)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See L{Protocol.connectionLost}."""
        self.setTimeout(None)
        self.factory.connections.discard(self)

    def _answer(self, line: bytes) -> Any:
        name = readRequest(line)
        handler = self.factory.handlers.get(name)
        if handler is None:
            return Failure(NanotunError(f"The daemon knows no request {name[:20]!a}."))
        return handler()

    def _failed(self, reason: Failure) -> bytes:
        if reason.check(NanotunError):
            return errorLine(str(reason.value))
        self._log.failure("A request failed by a mistake of ours", failure=reason)
        return errorLine("The daemon failed at this by a mistake of its own; see its log.")

    def _send(self, line: bytes) -> None:
        self._waiting = None
        if self in self.factory.connections:
            self.setTimeout(IDLE_TIME)
            self.sendLine(line)


class ControlFactory(Factory):
    """
    Makes the connections.

    @ivar handlers: by request.
    @ivar connections: those that are open.
    @param uids: whose connections are answered.
    """

    noisy = False

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        uids: frozenset[int],
        uidOf: Callable[[ITransport], int] = peerUid,
    ) -> None:
        self.handlers = handlers
        self.connections: set[ControlProtocol] = set()
        self._uids = uids
        self._uidOf = uidOf

    def buildProtocol(self, addr: IAddress | None = None) -> Protocol:
        """See L{Factory.buildProtocol}."""
        return _Door(self)

    def admit(self, transport: ITransport) -> ControlProtocol | bytes:
        """
        Look at who connected.

        @return: the protocol to go on with, or the line that says why not.
        """
        if self._uidOf(transport) not in self._uids:
            return errorLine("Only root may ask the daemon.")
        if len(self.connections) >= CONNECTION_LIMIT:
            return errorLine("Too many ask the daemon at the same time; try again.")
        protocol = ControlProtocol()
        protocol.factory = self
        self.connections.add(protocol)
        return protocol


class _Door(Protocol):
    """Lets a connection in or not; the uid is known once there is a transport."""

    def __init__(self, factory: ControlFactory) -> None:
        self._factory = factory
        self._inner: ControlProtocol | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        admitted = self._factory.admit(self.transport)
        if isinstance(admitted, bytes):
            self.transport.write(admitted + b"\n")
            self.transport.loseConnection()
            return
        self._inner = admitted
        admitted.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)


@implementer(IPart)
class ControlSocket:
    """
    The socket's part of the daemon.  Started while the lock is held: a socket that is
    there belongs to nobody.

    @param handlers: by request.
    """

    name = "the control socket"

    _log = Logger()

    def __init__(
        self, runDir: str, handlers: Mapping[str, Handler], reactor: Any, uid: int | None = None
    ) -> None:
        self._path = os.path.join(runDir, SOCKET)
        self._runDir = runDir
        self._reactor = reactor
        owner = os.geteuid() if uid is None else uid
        self._factory = ControlFactory(handlers, frozenset({0, owner}))
        self._port: IListeningPort | None = None
        self._directory = -1

    def start(self) -> None:
        """Listen; a warning where that is not possible."""
        try:
            path = self._path
            if len(os.fsencode(path)) > PATH_LIMIT:
                self._directory = os.open(self._runDir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                path = f"/proc/self/fd/{self._directory}/{SOCKET}"
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    os.unlink(path)
            self._port = self._reactor.listenUNIX(path, self._factory, mode=0o600)
        except (OSError, CannotListenError) as error:
            cause = error.socketError if isinstance(error, CannotListenError) else error
            self._log.warn(
                "The control socket {path} cannot be made ({error}), so 'nanotun status' and its "
                "like do not work; everything else does.",
                path=self._path,
                error=getattr(cause, "strerror", None) or str(cause),
            )
            self._closeDirectory()

    def stop(self) -> Deferred[None] | None:
        """Listen no more, and hang up on everybody."""
        for connection in list(self._factory.connections):
            connection.transport.loseConnection()
        port, self._port = self._port, None
        if port is None:
            return None
        stopped = maybeDeferred(port.stopListening)
        return stopped.addBoth(self._stopped)

    def _stopped(self, result: Any) -> Any:
        self._closeDirectory()
        return result

    def _closeDirectory(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
