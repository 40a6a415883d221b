"""
C{https://}: CONNECT inside TLS; see L{nanotun.upstream.handshakes.tls}.

The constructor imports HTTP: with h11 it takes some 10 ms of a start.
"""

from __future__ import annotations

from functools import lru_cache

from nanotun.errors import ConfigError
from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Authentication,
    IHandshake,
    IUpstream,
    ProxyURL,
    UpstreamContext,
)
from nanotun.upstream.scheme import FILE, FLAG, Scheme
from nanotun.upstream.schemes.http import CREDENTIAL_LIMIT, FORBIDDEN, loginOf


def _check(url: ProxyURL) -> None:
    if url.option("ca") and url.option("insecure"):
        raise ConfigError("must have either ca, which has the certificate checked, or insecure")


def _notices(url: ProxyURL) -> tuple[str, ...]:
    if not url.option("insecure"):
        return ()
    return (
        f"Nobody checks the certificate of the proxy {url}, so anyone on the way can pose as "
        "it; write ?ca=FILE in the place of ?insecure=1.",
    )


def _make(url: ProxyURL, context: UpstreamContext) -> IUpstream:
    from nanotun.upstream.dial.secure import Secure, readAuthorities
    from nanotun.upstream.handshakes.http import HttpHandshake, goodWay
    from nanotun.upstream.handshakes.tls import TlsGreeting, TlsHandshake, goodWayInTls
    from nanotun.upstream.httpproxy import HttpUpstream, PortTrial
    from nanotun.upstream.proxy import Handshakes

    ca, insecure = url.option("ca"), bool(url.option("insecure"))
    # Programs have upstreams of their own, for which the file is not read again.
    shared = {} if context.shared is None else context.shared
    authorities = shared.get(("certificates", ca))
    if authorities is None:
        authorities = shared["certificates", ca] = readAuthorities(ca)
    # Only the proxy sees the password, provided that its certificate is checked.
    proxy, login = str(url), loginOf(url, not insecure, context.changed)

    def connect(destination: Endpoint) -> IHandshake:
        return TlsHandshake(HttpHandshake(destination, proxy, login), proxy)

    def makeTrial(destination: Endpoint) -> PortTrial:
        own = loginOf(url, eager=False)
        return PortTrial(TlsHandshake(HttpHandshake(destination, proxy, own), proxy), own)

    way = lru_cache(1)(lambda method: goodWayInTls(goodWay(login)))
    handshakes = Handshakes(
        connect,
        greet=lambda: TlsGreeting(proxy),
        goodWay=lambda: way(None if login is None else login.method),
        secure=Secure(context.tls, authorities, ca, insecure, url.host),
    )
    return HttpUpstream(url, handshakes, context, makeTrial)


HTTPS = Scheme(
    "https",
    _make,
    defaultPort=443,
    authentication=Authentication.PASSWORD,
    credentialLimit=CREDENTIAL_LIMIT,
    forbidden=FORBIDDEN,
    options={
        "ca": FILE._replace(help="trust these certificates only", example="/etc/ssl/proxy.pem"),
        "insecure": FLAG._replace(help="do not look at the certificate"),
    },
    # No unix socket: the certificate is for the proxy's name or address.
    sendsNames=True,
    chains=True,
    check=_check,
    notices=_notices,
)
