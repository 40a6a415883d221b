"""
C{https://}: CONNECT inside TLS; see L{nanotun.upstream.handshakes.tls}.

The constructor imports HTTP and TLS: with h11 and ssl they take some 10 ms of a start.
"""

from __future__ import annotations

from typing import Any

from nanotun.errors import ConfigError
from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Authentication,
    Connection,
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
    from nanotun.upstream.handshakes.http import HttpHandshake
    from nanotun.upstream.handshakes.tls import TlsGreeting, TlsHandshake
    from nanotun.upstream.handshakes.tlscarry import carryTls
    from nanotun.upstream.httpproxy import HttpUpstream, PortTrial
    from nanotun.upstream.proxy import Handshakes
    from nanotun.upstream.tlsstream import makeContext

    insecure = bool(url.option("insecure"))
    # Only the proxy sees the password, provided that its certificate is checked.
    proxy, login = str(url), loginOf(url, eager=not insecure)
    # To read the system's certificates takes tens of milliseconds.
    shared = {} if context.shared is None else context.shared
    key = "tls", url.option("ca"), insecure
    if key not in shared:
        shared[key] = makeContext(url.option("ca"), insecure)
    tls = shared[key]

    def inTls(handshake: IHandshake) -> IHandshake:
        return TlsHandshake(handshake, proxy, tls, url.host)

    def connect(destination: Endpoint) -> IHandshake:
        return inTls(HttpHandshake(destination, proxy, login))

    def makeTrial(destination: Endpoint) -> PortTrial:
        own = loginOf(url, eager=False)
        return PortTrial(inTls(HttpHandshake(destination, proxy, own)), own)

    def carry(handshake: Any, connection: Connection) -> Connection:
        return carryTls(handshake.stream, connection, context.reactor)

    def greet() -> IHandshake:
        return TlsGreeting(proxy, tls, url.host)

    return HttpUpstream(url, Handshakes(connect, carry=carry, greet=greet), context, makeTrial)


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
