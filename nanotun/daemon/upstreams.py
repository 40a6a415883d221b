"""
The ways out of one configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, MultiService

from nanotun.addresses import GATEWAY4
from nanotun.config.settings import Settings
from nanotun.flow import Endpoint
from nanotun.interfaces import INames, IUpstream
from nanotun.router.named import NamedUpstream
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.group.group import upstreamReport
from nanotun.upstream.make import upstreamsFor
from nanotun.upstream.proxy import ProxyUpstream


class Upstreams(MultiService):
    """
    Where flows go, and as a service what looks after it: pools and the health of
    proxies.  Living flows need nothing of this, so a daemon that is configured anew
    stops an old one while they go on.

    @ivar upstream: for proxied flows.
    @ivar direct: for those that pass the proxy by.
    @ivar single: what L{upstream} is made of.
    @param leadsIn: whether a marked packet to a literal address comes back into the
        device.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        names: INames,
        leadsIn: Callable[[str], bool] = lambda host: False,
    ) -> None:
        """
        Opens nothing.

        @raise nanotun.errors.ConfigError: a file that a proxy's URL names is no good.
        """
        super().__init__()
        self.single: list[IUpstream] = []
        self._proxies: list[ProxyUpstream] = []
        self._reactor = reactor
        self._names = names
        self._leadsIn = leadsIn
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
            self._member,
            settings.upstreamPool,
            pools,
        )
        self.direct = self._around(DirectUpstream(reactor, settings.connectTimeout))
        if IService.providedBy(self.upstream):
            self.upstream.setServiceParent(self)
        if settings.upstreamPool:
            pools.setServiceParent(self)

    def dials(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint is that of a proxy whose URL has a name."""
        return any(proxy.dials(endpoint) for proxy in self._proxies)

    def report(self) -> dict[str, Any]:
        """See L{upstreamReport}."""
        return upstreamReport(self.upstream, self.single)

    def _member(self, upstream: IUpstream) -> IUpstream:
        self.single.append(upstream)
        return self._around(upstream)

    def _around(self, upstream: IUpstream) -> IUpstream:
        if isinstance(upstream, ProxyUpstream):
            self._proxies.append(upstream)
        if isinstance(upstream, ProxyUpstream | DirectUpstream):
            upstream.leadsIn = self._leadsIn
        if not self._fakes and not upstream.sendsNames:
            return upstream
        return NamedUpstream(upstream, self._names, self._reactor, self._timeout)


def noticesOf(settings: Settings, upstream: IUpstream) -> tuple[str, ...]:
    """What a user should know of these settings before he wonders."""
    notices: tuple[str, ...] = ()
    if not upstream.carriesDatagrams:
        notices += (
            f"The way out, {upstream.describe()}, carries no UDP: apps hear so at once, and "
            f"their DNS queries need the relay at {GATEWAY4}.",
        )
    return notices + tuple(
        f"Nobody checks the certificate of the proxy {proxy}, so anyone on the way can pose as "
        "it; write ?ca=FILE in the place of ?insecure=1."
        for proxy in settings.proxy
        if proxy.insecure
    )
