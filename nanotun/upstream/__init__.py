"""
The ways out: one sans-io handshake per scheme, one file that makes sockets,
one that connects them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nanotun.errors import ConfigError
from nanotun.flow import Endpoint
from nanotun.interfaces import IUpstream
from nanotun.proxyurl import ProxyURL
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.proxy import Handshakes, ProxyUpstream
from nanotun.upstream.socks5 import UDP_ASSOCIATE, Socks5Handshake


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


def _socks5(url: ProxyURL) -> Handshakes:
    proxy = str(url)
    credentials = None
    if url.username is not None:
        credentials = (url.username.encode(), (url.password or "").encode())
    # The family says by which one datagrams will come (RFC 1928, section 4).
    nobody = Endpoint("::" if ":" in url.host else "0.0.0.0", 0)
    return Handshakes(
        lambda destination: Socks5Handshake(destination, proxy, credentials),
        lambda: Socks5Handshake(nobody, proxy, credentials, UDP_ASSOCIATE),
    )


#: Scheme to what makes the handshakes with one proxy.
_HANDSHAKES: dict[str, Callable[[ProxyURL], Handshakes]] = {
    "socks5": _socks5,
}
