"""
The part of the daemon that serves the metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.errors import NanotunError
from nanotun.flow import Endpoint
from nanotun.httpd.site import FewConnections, QuietSite
from nanotun.interfaces import IPart
from nanotun.linux.tokens import tokenOf
from nanotun.metrics.families import Counted, Families
from nanotun.metrics.lag import ReactorLag
from nanotun.metrics.page import CONNECTION_LIMIT, MetricsPage
from nanotun.rundir import METRICS_TOKEN


@implementer(IPart)
class MetricsServer:
    """
    Serves C{http://HOST:PORT/metrics} to whoever has the token.  Where it cannot, the daemon
    does without it and says so: traffic matters more.

    @param where: the literal address to listen on.
    @param runDir: where the token is.
    @param now: seconds since 1970.
    """

    name = "the metrics"

    _log = Logger()

    def __init__(
        self,
        where: Endpoint,
        runDir: str,
        counted: Counted,
        reactor: Any,
        now: Callable[[], float],
    ) -> None:
        self._where = where
        self._runDir = runDir
        self._counted = counted
        self._reactor = reactor
        self._now = now
        self._lag = ReactorLag(reactor)
        self._registry = CollectorRegistry()
        self._factory: FewConnections | None = None
        self._port: Any = None

    def start(self) -> None:
        """Listen; log a warning if that is impossible."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(Families(self._counted, self._now(), self._lag.durations))
        try:
            page = MetricsPage(tokenOf(self._runDir, METRICS_TOKEN), self.write)
            factory = FewConnections(QuietSite(page, self._reactor), CONNECTION_LIMIT)
            self._port = self._reactor.listenTCP(
                self._where.port, factory, interface=self._where.host
            )
        except (OSError, CannotListenError, NanotunError) as error:
            cause = error.socketError if isinstance(error, CannotListenError) else error
            self._log.warn(
                "The metrics cannot be served at {where}, and everything else works: {error}",
                where=self._where,
                error=getattr(cause, "strerror", None) or str(cause),
            )
            return
        self._factory = factory

    def stop(self) -> Deferred[None] | None:
        """Stop listening and close every connection."""
        self._lag.stop()
        port, self._port = self._port, None
        if port is None or self._factory is None:
            return None
        self._factory.close()
        return maybeDeferred(port.stopListening)

    def write(self, accepted: str) -> tuple[bytes, str]:
        """
        Write the page.

        @param accepted: the header C{Accept}.
        @return: the page, and its type.
        """
        self._lag.watched()
        encode, kind = choose_encoder(accepted)
        return encode(self._registry), kind
