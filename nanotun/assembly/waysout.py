"""
The ways out of one configuration.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService, MultiService

from nanotun.config import Settings
from nanotun.interfaces import IUpstream
from nanotun.naming import NamedUpstream, Naming
from nanotun.upstream import upstreamsFor
from nanotun.upstream.report import upstreamReport


class WaysOut(MultiService):
    """
    Where proxied flows go, and as a service what looks after it: pools and the health
    of proxies.  Living flows need nothing of this, so a daemon that is configured anew
    stops an old one while they go on.

    @ivar upstream: for the router.
    @ivar single: what it is made of.
    """

    def __init__(self, settings: Settings, reactor: Any, naming: Naming) -> None:
        """
        Opens nothing.

        @raise nanotun.errors.ConfigError: a file that a proxy's URL names is no good.
        """
        super().__init__()
        self.single: list[IUpstream] = []
        self._reactor = reactor
        self._naming = naming
        self._fakes = settings.dnsMode == "fake-ip"
        self._timeout = settings.connectTimeout
        pools = MultiService()
        self.upstream = upstreamsFor(
            settings.proxy,
            settings.proxyPolicy,
            reactor,
            settings.connectTimeout,
            settings.proxyCheckInterval,
            settings.logLevel == "debug",
            self._around,
            settings.upstreamPool,
            pools,
        )
        if IService.providedBy(self.upstream):
            self.upstream.setServiceParent(self)
        if settings.upstreamPool:
            pools.setServiceParent(self)

    def _around(self, upstream: IUpstream) -> IUpstream:
        self.single.append(upstream)
        if not self._fakes and not upstream.sendsNames:
            return upstream
        return NamedUpstream(upstream, self._naming, self._reactor, self._timeout)

    def report(self) -> dict[str, Any]:
        """See L{upstreamReport}."""
        return upstreamReport(self.upstream, self.single)
