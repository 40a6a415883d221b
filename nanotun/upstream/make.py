"""
From the URLs of the settings to upstreams.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nanotun.interfaces import IUpstream, ProxyURL, UpstreamContext
from nanotun.log.trouble import TroubleLog
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.sole import SoleUpstream


def upstreamsFor(urls: Iterable[ProxyURL], context: UpstreamContext) -> list[IUpstream]:
    """
    Make the upstream that each URL stands for.  Opens and starts nothing.

    @return: each provides L{nanotun.interfaces.IHealthCheck} too.
    @raise nanotun.errors.ConfigError: a file that a URL names is no good.
    """
    return [url.scheme.make(url, context) for url in urls]


def groupOf(
    upstreams: Sequence[IUpstream],
    policy: str,
    context: UpstreamContext,
    interval: float,
    trouble: TroubleLog,
    logFlows: bool = False,
    asks: bool = True,
) -> IUpstream:
    """
    One upstream for several.

    @param upstreams: at least one, in the configuration's order.
    @param policy: which of them is used, and when; see
        L{nanotun.upstream.group.policies.POLICIES}.
    @param interval: seconds between two checks of one that no flow uses.
    @param trouble: told of upstreams that go down.
    @param logFlows: whether each flow gets a debug line that names its upstream.
    @param asks: whether the only upstream is a proxy, whose health can be asked for.
    @return: a service to be started that checks them and chooses; or the only upstream.
    """
    reactor, timeout = context.reactor, context.timeout
    if len(upstreams) > 1:
        return GroupUpstream(upstreams, policy, reactor, timeout, interval, trouble, logFlows)
    if asks:
        return SoleUpstream(upstreams[0], reactor, timeout, interval, trouble)
    return upstreams[0]
