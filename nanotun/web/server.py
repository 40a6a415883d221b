"""
The part of the daemon that serves the page and the API.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from nanotun.errors import NanotunError
from nanotun.flow import Endpoint
from nanotun.httpd.site import FewConnections, QuietSite
from nanotun.interfaces import IPart
from nanotun.linux.peers import peerUid
from nanotun.linux.tokens import tokenOf
from nanotun.rundir import WEB_TOKEN
from nanotun.web.api import Api, DaemonSide
from nanotun.web.events import EventSources, EventStreams
from nanotun.web.guard import WebGuard
from nanotun.web.site import WebRequest, WebRoot

#: Connections at a time: a browser has six for each address.
CONNECTION_LIMIT = 32


class PeerConnections(FewConnections):
    """
    Connections of a unix socket, of some users only.

    @param uids: whose.
    """

    def __init__(
        self, site: QuietSite, limit: int, uids: frozenset[int], uidOf: Callable[[Any], int]
    ) -> None:
        super().__init__(site, limit)
        self._uids = uids
        self._uidOf = uidOf

    def takes(self, p: ProtocolWrapper) -> bool:
        """See L{FewConnections.takes}."""
        return self._uidOf(p.transport) in self._uids


@implementer(IPart)
class WebServer:
    """
    Serves the page and the API to whoever has the token.  Where it cannot, the daemon does
    without it and says so: traffic matters more.

    @param where: the literal address to listen on, or the path of a unix socket.
    @param runDir: where the token is.
    @param uidOf: the user at the other end of a connection to the socket.
    """

    name = "the web page"

    _log = Logger()

    def __init__(
        self,
        where: Endpoint | str,
        runDir: str,
        daemon: DaemonSide,
        sources: EventSources,
        reactor: Any,
        uidOf: Callable[[Any], int] = peerUid,
    ) -> None:
        self._where = where
        self._runDir = runDir
        self._daemon = daemon
        self._reactor = reactor
        self._uidOf = uidOf
        self._streams = EventStreams(sources, reactor)
        self._factory: FewConnections | None = None
        self._port: Any = None

    def start(self) -> None:
        """Listen; log a warning if that is impossible."""
        try:
            self._factory = self._listen()
        except (OSError, CannotListenError, NanotunError) as error:
            cause = error.socketError if isinstance(error, CannotListenError) else error
            self._log.warn(
                "The web page cannot be served at {where}, and everything else works: {error}",
                where=self._where,
                error=getattr(cause, "strerror", None) or str(cause),
            )

    def _listen(self) -> FewConnections:
        where = self._where
        guard = WebGuard(
            tokenOf(self._runDir, WEB_TOKEN), None if isinstance(where, str) else where
        )
        root = WebRoot(guard, Api(self._daemon, guard.csrf), self._streams)
        site = QuietSite(root, self._reactor, WebRequest)
        if not isinstance(where, str):
            factory = FewConnections(site, CONNECTION_LIMIT)
            self._port = self._reactor.listenTCP(where.port, factory, interface=where.host)
            return factory
        uids = frozenset({0, os.geteuid()})
        factory = PeerConnections(site, CONNECTION_LIMIT, uids, self._uidOf)
        with contextlib.suppress(FileNotFoundError):
            # One that a crash has left behind, and not another program's.
            if stat.S_ISSOCK(os.lstat(where).st_mode) and not _isServed(where):
                os.unlink(where)
        self._port = self._reactor.listenUNIX(where, factory, mode=0o600)
        return factory

    def stop(self) -> Deferred[None] | None:
        """Stop listening and close every connection."""
        self._streams.stop()
        port, self._port = self._port, None
        if port is None or self._factory is None:
            return None
        self._factory.close()
        return maybeDeferred(port.stopListening)


def _isServed(path: str) -> bool:
    """Whether somebody listens on a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        return sock.connect_ex(path) != errno.ECONNREFUSED
