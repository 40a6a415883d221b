"""
From the URLs of the settings to upstreams.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nanotun.interfaces import IUpstream, ProxyURL, UpstreamContext
from nanotun.upstream.group.group import GroupUpstream


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
    logFlows: bool = False,
) -> IUpstream:
    """
    One upstream for several.

    @param upstreams: at least one, in the configuration's order.
    @param policy: which of them is used, and when; see
        L{nanotun.upstream.group.policies.POLICIES}.
    @param interval: seconds between two checks of one of several.
    @param logFlows: whether each flow gets a debug line that names its upstream.
    @return: the only upstream, or a service to be started that chooses.
    """
    if len(upstreams) == 1:
        return upstreams[0]
    return GroupUpstream(upstreams, policy, context.reactor, context.timeout, interval, logFlows)
