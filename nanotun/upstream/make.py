"""
The ways out: one sans-io handshake per scheme, one file that makes sockets,
one that connects them; and a choice of several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IServiceCollection

from nanotun.errors import ConfigError
from nanotun.interfaces import IUpstream
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.proxy import ProxyUpstream
from nanotun.upstream.reject import RejectUpstream
from nanotun.upstream.schemes.table import HANDSHAKES
from nanotun.upstream.url import ProxyURL


def upstreamsFor(
    urls: Sequence[ProxyURL],
    policy: str,
    reactor: Any,
    timeout: float,
    interval: float,
    logFlows: bool = False,
    around: Callable[[IUpstream], IUpstream] = lambda upstream: upstream,
    poolSize: int = 0,
    services: IServiceCollection | None = None,
) -> IUpstream:
    """
    The upstream that one or more URLs stand for.  Opens nothing yet; several are
    a service to be started.

    @param policy: which of several is used, and when; see
        L{nanotun.upstream.group.policies.POLICIES}.
    @param timeout: seconds for one connection, all steps together.
    @param interval: seconds between two checks of one of several.
    @param logFlows: whether each flow gets a debug line that names its upstream.
    @param around: what each is wrapped in.
    @param poolSize: as for L{upstreamFor}, of each; and so is C{services}.
    @raise ConfigError: as from L{upstreamFor}.
    """
    upstreams = [around(upstreamFor(url, reactor, timeout, poolSize, services)) for url in urls]
    if len(upstreams) == 1:
        return upstreams[0]
    return GroupUpstream(upstreams, policy, reactor, timeout, interval, logFlows)


def upstreamFor(
    url: ProxyURL,
    reactor: Any,
    timeout: float,
    poolSize: int = 0,
    services: IServiceCollection | None = None,
) -> IUpstream:
    """
    The upstream that a URL stands for.  Opens nothing yet.

    @param timeout: seconds for one connection, all steps together.
    @param poolSize: how many connections to a proxy wait for a destination.
    @param services: gets the service that keeps them, if there is one.
    @raise ConfigError: there is no such scheme, or a file that the URL names
        is no good.
    """
    if url.scheme == "direct":
        return DirectUpstream(reactor, timeout)
    if url.scheme == "reject":
        return RejectUpstream()
    handshakes = HANDSHAKES.get(url.scheme)
    if handshakes is None:
        raise ConfigError(f"The proxy {url} has an unknown scheme.")
    upstream = ProxyUpstream(url, handshakes(url, reactor), reactor, timeout, poolSize=poolSize)
    if upstream.pool is not None and services is not None:
        upstream.pool.setServiceParent(services)
    return upstream
