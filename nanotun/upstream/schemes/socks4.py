"""C{socks4://} and C{socks4a://}; see L{nanotun.upstream.handshakes.socks4}."""

from __future__ import annotations

from nanotun.interfaces import Authentication, IUpstream, ProxyURL, UpstreamContext
from nanotun.upstream.scheme import Scheme


def _make(url: ProxyURL, context: UpstreamContext) -> IUpstream:
    from nanotun.upstream.handshakes.socks4 import Socks4Handshake, goodWay
    from nanotun.upstream.proxy import Handshakes, ProxyUpstream

    proxy, user = str(url), (url.username or "").encode()
    way = goodWay(user)
    handshakes = Handshakes(
        lambda destination: Socks4Handshake(destination, proxy, user), goodWay=lambda: way
    )
    return ProxyUpstream(url, handshakes, context)


def _scheme(name: str, sendsNames: bool) -> Scheme:
    return Scheme(
        name,
        _make,
        defaultPort=1080,
        authentication=Authentication.USER,
        # What servers take; the memo sets no limit.
        credentialLimit=255,
        # A zero ends the user name.
        forbidden="\0",
        unixSocket=True,
        sendsNames=sendsNames,
        chains=True,
    )


SOCKS4 = _scheme("socks4", sendsNames=False)
SOCKS4A = _scheme("socks4a", sendsNames=True)
