"""
The control socket: answers C{nanotun status} and similar requests.

Only root and the daemon's own user can use it, so it needs no setting: its mode is 0600
before it listens, and the uid of each peer is checked as well (SO_PEERCRED, unix(7)).  A
daemon that cannot make the socket logs a warning and runs without it.
"""

from __future__ import annotations

import contextlib
import os
import stat
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
from nanotun.linux.peers import peerUid
from nanotun.rundir import SOCKET

#: Connections at a time: enough for a few terminals and a monitor.
CONNECTION_LIMIT = 16

#: What a connection hears that gives its place to a new one.
REPLACED = (
    "The daemon has closed this connection, which was idle for longest, to answer somebody else; "
    "ask again."
)

#: Seconds that it has to read this.
READ_TIME = 5.0

#: Seconds that a connection may be silent.  C{nanotun status --watch} at its usual
#: intervals sends more often than that.
IDLE_TIME = 60.0

#: Bytes of C{sun_path} without the final zero (unix(7)).
PATH_LIMIT = 107

#: Answers a request, of which it gets the arguments: returns a JSON value, or a Deferred
#: that fires with one.
Handler = Callable[[Mapping[str, Any]], Any]


class ControlProtocol(LineOnlyReceiver, TimeoutMixin):
    """
    One connection.  Answers one request after the other; a client that does not wait for
    the answer before it sends the next request is disconnected.
    """

    delimiter = b"\n"
    MAX_LENGTH = REQUEST_LIMIT
    factory: ControlFactory
    transport: Any

    _log = Logger()
    _waiting: Deferred[Any] | None = None

    def connectionMade(self) -> None:
        """See L{Protocol.connectionMade}.  Until there is a transport the peer is unknown."""
        refusal = self.factory.refusalFor(self.transport)
        if refusal:
            # LineOnlyReceiver delivers no more lines once the transport is disconnecting.
            self.sendLine(errorLine(refusal))
            self.transport.loseConnection()
            return
        self.factory.used(self)
        self.setTimeout(IDLE_TIME)

    @property
    def idle(self) -> bool:
        """Whether it waits for no answer."""
        return self._waiting is None

    def replace(self) -> None:
        """Close the connection, because a new one needs its place."""
        self.sendLine(errorLine(REPLACED))
        self.transport.loseConnection()
        self.setTimeout(READ_TIME)

    def timeoutConnection(self) -> None:
        """See L{TimeoutMixin.timeoutConnection}; a peer that reads nothing has no say."""
        self.transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:
        """See L{LineOnlyReceiver.lineReceived}."""
        self.factory.used(self)
        if self._waiting is not None:
            # nanotun's own client never does this, and an endless queue must not build up.
            self.sendLine(errorLine("One request at a time, please."))
            self.transport.loseConnection()
            return
        # The time that the answer takes does not count as the peer's silence.
        self.setTimeout(None)
        waiting = self._waiting = maybeDeferred(self._answer, line)
        waiting.addCallbacks(resultLine, self._failed)
        waiting.addErrback(self._failed)
        waiting.addCallback(self._send)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See L{Protocol.connectionLost}."""
        self.setTimeout(None)
        self.factory.connections.pop(self, None)

    def _answer(self, line: bytes) -> Any:
        request = readRequest(line)
        handler = self.factory.handlers.get(request.name)
        if handler is None:
            sentence = (
                f"The daemon knows no request {request.name[:20]!a}; it may be of another version: "
                "restart it with the nanotun that is installed now."
            )
            return Failure(NanotunError(sentence))
        return handler(request.arguments)

    def _failed(self, reason: Failure) -> bytes:
        if reason.check(NanotunError):
            return errorLine(str(reason.value))
        self._log.failure("A request failed because of an internal error", failure=reason)
        return errorLine("The daemon failed at this because of an internal error; see its log.")

    def _send(self, line: bytes) -> None:
        self._waiting = None
        if self in self.factory.connections:
            self.factory.used(self)
            self.setTimeout(IDLE_TIME)
            self.sendLine(line)


class ControlFactory(Factory):
    """
    Makes the protocols and decides which peers may ask.

    @ivar handlers: by the name of the request.
    @ivar connections: the open connections that were not refused, the one that was used
        last at the end.
    @param uids: the users whose requests are answered.
    @param uidOf: returns the uid of a transport's peer.
    """

    noisy = False

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        uids: frozenset[int],
        uidOf: Callable[[ITransport], int] = peerUid,
    ) -> None:
        self.handlers = handlers
        self.connections: dict[ControlProtocol, None] = {}
        self._uids = uids
        self._uidOf = uidOf

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """See L{Factory.buildProtocol}."""
        protocol = ControlProtocol()
        protocol.factory = self
        return protocol

    def refusalFor(self, transport: ITransport) -> str:
        """Why this peer is not answered, as a sentence; empty if it is."""
        if self._uidOf(transport) not in self._uids:
            return "Only root may ask the daemon."
        if len(self.connections) >= CONNECTION_LIMIT and not self._makeRoom():
            return "Too many ask the daemon at the same time; try again."
        return ""

    def used(self, connection: ControlProtocol) -> None:
        """A connection was made or used just now."""
        self.connections.pop(connection, None)
        self.connections[connection] = None

    def _makeRoom(self) -> bool:
        """Close the connection that has been idle for longest; tells whether there was one."""
        for connection in self.connections:
            if connection.idle:
                del self.connections[connection]
                connection.replace()
                return True
        return False


@implementer(IPart)
class ControlSocket:
    """
    The part of the daemon that listens on the control socket.  It is started while the
    daemon holds the lock, so a socket that already exists belongs to no running daemon.

    @param handlers: by the name of the request.
    @param uid: the daemon's user, who may ask as well as root; this process's by default.
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
        """Listen; log a warning if that is impossible."""
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
        """Stop listening and close every connection."""
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
