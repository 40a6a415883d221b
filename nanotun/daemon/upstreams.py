"""
The upstreams of one configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, MultiService

from nanotun.addresses import GATEWAY4
from nanotun.config.settings import Settings
from nanotun.flow import Endpoint
from nanotun.interfaces import INames, IUpstream, UpstreamContext
from nanotun.router.named import NamedUpstream
from nanotun.upstream.dial.sockets import openDatagram, openStream
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.group.group import upstreamReport
from nanotun.upstream.make import groupOf, upstreamsFor


class Upstreams(MultiService):
    """
    The upstreams, and as a service what keeps them ready: the connections that wait and
    the checks of proxies' health.  Flows that are open need none of it, so a daemon
    whose configuration changes stops the old one at once.

    @ivar upstream: for proxied flows.
    @ivar direct: for flows that go past the proxy.
    @ivar single: one for each proxy of the settings, in their order: what L{upstream}
        chooses from.
    @param names: the names behind addresses.
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
        services = MultiService()
        context = UpstreamContext(
            reactor,
            settings.connectTimeout,
            openStream,
            openDatagram,
            leadsIn,
            settings.upstreamPool,
            services,
        )
        fakes = settings.dnsMode == "fake-ip"

        def named(upstream: IUpstream) -> IUpstream:
            if not fakes and not upstream.sendsNames:
                return upstream
            return NamedUpstream(upstream, names, reactor, settings.connectTimeout)

        self.single = upstreamsFor(settings.proxy, context)
        self.upstream = groupOf(
            [named(upstream) for upstream in self.single],
            settings.proxyPolicy,
            context,
            settings.proxyCheckInterval,
            settings.logLevel == "debug",
        )
        self.direct = named(DirectUpstream(context))
        if IService.providedBy(self.upstream):
            self.upstream.setServiceParent(self)
        services.setServiceParent(self)

    def dials(self, endpoint: Endpoint) -> bool:
        """See L{IUpstream.dials}."""
        return self.upstream.dials(endpoint)

    def report(self) -> dict[str, Any]:
        """See L{upstreamReport}."""
        return upstreamReport(self.upstream, self.single)


def noticesOf(settings: Settings, upstream: IUpstream) -> tuple[str, ...]:
    """
    Sentences that the user of these settings should read when the daemon starts.

    @param upstream: for proxied flows.
    """
    notices: tuple[str, ...] = ()
    if not upstream.carriesDatagrams:
        notices += (
            f"The upstream {upstream.describe()} carries no UDP: apps hear so at once, and "
            f"their DNS queries need the relay at {GATEWAY4}.",
        )
    for url in settings.proxy:
        notices += url.scheme.notices(url)
    return notices
