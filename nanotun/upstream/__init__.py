"""
The ways out: one sans-io handshake per scheme, one file that makes sockets,
one that connects them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nanotun.errors import ConfigError
from nanotun.flow import Endpoint
from nanotun.interfaces import IHandshake, IUpstream
from nanotun.proxyurl import ProxyURL
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.proxy import ProxyUpstream
from nanotun.upstream.socks5 import Socks5Handshake


def upstreamFor(url: ProxyURL, reactor: Any, timeout: float) -> IUpstream:
    """
    The upstream that a URL stands for.  Opens nothing yet.

    @param timeout: seconds for one connection, all steps together.
    @raise ConfigError: there is no such scheme.
    """
    if url.scheme == "direct":
        return DirectUpstream(reactor, timeout)
    handshakes = _HANDSHAKES.get(url.scheme)
    if handshakes is None:
        raise ConfigError(f"The proxy {url} has an unknown scheme; use socks5:// or direct://.")
    return ProxyUpstream(url, handshakes(url), reactor, timeout)


def _socks5(url: ProxyURL) -> Callable[[Endpoint], IHandshake]:
    proxy = str(url)
    credentials = None
    if url.username is not None:
        credentials = (url.username.encode(), (url.password or "").encode())
    return lambda destination: Socks5Handshake(destination, proxy, credentials)


#: Scheme to what makes, for one proxy, the handshake for one destination.
_HANDSHAKES: dict[str, Callable[[ProxyURL], Callable[[Endpoint], IHandshake]]] = {
    "socks5": _socks5,
}
