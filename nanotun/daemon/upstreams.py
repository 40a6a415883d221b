"""
The upstreams of one configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.addresses import GATEWAY4
from nanotun.config.notices import namesInClear
from nanotun.config.settings import Settings
from nanotun.flow import Decision, Endpoint, Flow, Verdict
from nanotun.interfaces import INames, IUpstream, IUpstreams, UpstreamContext
from nanotun.log.trouble import TroubleLog
from nanotun.router.named import NamedUpstream
from nanotun.upstream.dial.sockets import openDatagram, openStream
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.group.group import GroupUpstream, upstreamReport
from nanotun.upstream.group.member import SILENCE
from nanotun.upstream.make import groupOf, upstreamsFor
from nanotun.upstream.pool.pool import WarmPool
from nanotun.upstream.scheme import sendsNamesWith

#: Seconds.  A proxy that is silent for longer than L{SILENCE} is down, and a terminal waits for
#: the answer.
REFRESH_LIMIT = SILENCE + 0.5


@implementer(IUpstreams)
class Upstreams(MultiService):
    """
    The upstreams, and as a service what keeps them ready: the connections that wait and
    the checks of proxies' health.  Flows that are open need none of it, so a daemon
    whose configuration changes stops the old one at once.

    @ivar upstream: for proxied flows.
    @ivar direct: for flows that go past the proxy.
    @ivar ways: both, by the values of C{dnsVia}.
    @ivar single: one for each proxy of the settings, in their order: what L{upstream}
        chooses from.
    @param names: the names behind addresses.
    @param trouble: told of proxies that go down.
    @param leadsIn: whether a marked packet to a literal address comes back into the
        device.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        names: INames,
        trouble: TroubleLog,
        leadsIn: Callable[[str], bool] = lambda host: False,
    ) -> None:
        """
        Opens nothing.

        @raise nanotun.errors.ConfigError: a file that a proxy's URL names is no good.
        """
        super().__init__()
        self._reactor = reactor
        services = self._services = MultiService()
        context = UpstreamContext(
            reactor,
            settings.connectTimeout,
            openStream,
            openDatagram,
            leadsIn,
            settings.upstreamPool,
            services,
            settings.dns,
        )
        fakes = settings.dnsMode == "fake-ip"

        def named(upstream: IUpstream, sends: bool) -> IUpstream:
            if not fakes and not sends:
                return upstream
            return NamedUpstream(upstream, names, reactor, settings.connectTimeout, sends)

        self.single = upstreamsFor(settings.proxy, context)
        self.upstream = groupOf(
            [
                named(upstream, sendsNamesWith(url.scheme, fakes))
                for upstream, url in zip(self.single, settings.proxy, strict=True)
            ],
            settings.proxyPolicy,
            context,
            settings.proxyCheckInterval,
            trouble,
            settings.logLevel == "debug",
            # direct:// and reject:// have nobody to ask.
            asks=bool(settings.proxy[0].host),
        )
        self.direct = named(DirectUpstream(context), sends=False)
        self.ways = {"direct": self.direct, "proxy": self.upstream}
        if IService.providedBy(self.upstream):
            self.upstream.setServiceParent(self)
        services.setServiceParent(self)

    def leaving(self, decision: Decision, flow: Flow) -> IUpstream:
        """See L{IUpstreams.leaving}."""
        return self.direct if decision.verdict is Verdict.DIRECT else self.upstream

    def dials(self, endpoint: Endpoint) -> bool:
        """See L{IUpstream.dials}."""
        return self.upstream.dials(endpoint)

    def networkMoved(self) -> None:
        """
        Trust nothing that was learned or opened in the network where the machine was before.
        """
        for service in self._services:
            if isinstance(service, WarmPool):
                service.networkMoved()
        if isinstance(self.upstream, GroupUpstream):
            self.upstream.networkMoved()

    @property
    def toldDown(self) -> bool:
        """Whether the log has said of every proxy that it is down."""
        upstream = self.upstream
        return isinstance(upstream, GroupUpstream) and not any(
            member.healthy for member in upstream.members.all
        )

    def report(self) -> dict[str, Any]:
        """See L{upstreamReport}."""
        return upstreamReport(self.upstream, self.single, self._reactor.seconds())

    def refresh(self) -> Deferred[Any]:
        """
        Ask the proxies whether they are well, unless that is known.

        @return: fires when it is known, or after L{REFRESH_LIMIT}; never fails.
        """
        if not isinstance(self.upstream, GroupUpstream):
            return succeed(None)
        refreshed = self.upstream.refresh().addTimeout(REFRESH_LIMIT, self._reactor)
        return refreshed.addErrback(_notInTime)


def _notInTime(reason: Failure) -> None:
    reason.trap(TimeoutError)


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
    return notices + namesInClear(settings)
