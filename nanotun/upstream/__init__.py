"""
The ways out: one sans-io handshake per scheme, one file that makes sockets,
one that connects them.
"""

from __future__ import annotations

from typing import Any

from nanotun.errors import ConfigError
from nanotun.interfaces import IUpstream
from nanotun.proxyurl import ProxyURL
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.proxy import ProxyUpstream
from nanotun.upstream.reject import RejectUpstream
from nanotun.upstream.schemes import HANDSHAKES


def upstreamFor(url: ProxyURL, reactor: Any, timeout: float, poolSize: int = 0) -> IUpstream:
    """
    The upstream that a URL stands for.  Opens nothing yet; if it is an
    L{IService<twisted.application.service.IService>} as well, it wants to be started.

    @param timeout: seconds for one connection, all steps together.
    @param poolSize: how many connections to a proxy wait for a destination.
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
    return ProxyUpstream(url, handshakes(url, reactor), reactor, timeout, poolSize=poolSize)
