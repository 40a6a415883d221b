"""
C{socks5://} and C{socks5h://}; see L{nanotun.upstream.handshakes.socks5}.

A SOCKS5 proxy looks up names whichever of the two is written, but with C{socks5://}
users want them looked up here, as with curl(1).  With fake-ip there is nothing to be
looked up here.
"""

from __future__ import annotations

from nanotun.flow import Endpoint
from nanotun.interfaces import Authentication, IUpstream, ProxyURL, UpstreamContext
from nanotun.upstream.scheme import FLAG, Scheme

_PIPELINE = "send everything at once: fewer round trips, where the proxy can take it"


def _make(url: ProxyURL, context: UpstreamContext) -> IUpstream:
    from nanotun.upstream.handshakes.socks5 import UDP_ASSOCIATE, Socks5Handshake, goodWay
    from nanotun.upstream.proxy import Handshakes, ProxyUpstream

    proxy, credentials, pipeline = str(url), url.credentials, bool(url.option("pipeline"))
    # Its family tells the proxy by which one datagrams will come (RFC 1928, section 4).
    nobody = Endpoint("::" if ":" in url.host else "0.0.0.0", 0)

    def connect(destination: Endpoint) -> Socks5Handshake:
        return Socks5Handshake(destination, proxy, credentials, pipeline=pipeline)

    def associate() -> Socks5Handshake:
        return Socks5Handshake(nobody, proxy, credentials, UDP_ASSOCIATE, pipeline)

    def greet() -> Socks5Handshake:
        return Socks5Handshake(None, proxy, credentials, pipeline=pipeline)

    # The proxy's UDP relay is at an address, and a unix socket has none.
    relays, way = None if url.socketPath else associate, goodWay(credentials, pipeline)
    handshakes = Handshakes(connect, relays, greet=greet, goodWay=lambda: way)
    return ProxyUpstream(url, handshakes, context)


def _scheme(name: str, sendsNames: bool) -> Scheme:
    return Scheme(
        name,
        _make,
        defaultPort=1080,
        authentication=Authentication.PASSWORD,
        # RFC 1929, section 2: one byte holds the length.
        credentialLimit=255,
        options={"pipeline": FLAG._replace(help=_PIPELINE)},
        unixSocket=True,
        sendsNames=sendsNames,
        takesNames=True,
        carriesDatagrams=True,
        chains=True,
    )


SOCKS5 = _scheme("socks5", sendsNames=False)
SOCKS5H = _scheme("socks5h", sendsNames=True)
