"""
C{http://}: CONNECT; see L{nanotun.upstream.handshakes.http}.

The constructor imports HTTP: with h11 it takes some 10 ms of a start.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from nanotun.flow import Endpoint
from nanotun.interfaces import Authentication, IUpstream, ProxyURL, UpstreamContext
from nanotun.upstream.scheme import FLAG, Scheme

if TYPE_CHECKING:
    from nanotun.upstream.handshakes.httplogin import HttpLogin

#: Bytes.  RFC 7617 sets no limit; servers take 8 KiB for all of a request.
CREDENTIAL_LIMIT = 2048

#: A colon ends the user name, and control characters are out (RFC 7617, section 2).
FORBIDDEN = r"[:\0-\x1f\x7f]"


def loginOf(
    url: ProxyURL, eager: bool, changed: Callable[[], None] = lambda: None
) -> HttpLogin | None:
    """
    The log-in that all connections to a proxy share; L{None} for a URL without a user.

    @param eager: whether the first request already holds the password.
    @param changed: see L{nanotun.upstream.handshakes.httplogin.HttpLogin}.
    """
    credentials = url.credentials
    if credentials is None:
        return None
    import secrets

    from nanotun.upstream.handshakes.httplogin import HttpLogin

    return HttpLogin(*credentials, lambda: secrets.token_hex(16).encode(), eager, changed)


def _make(url: ProxyURL, context: UpstreamContext) -> IUpstream:
    from nanotun.upstream.handshakes.http import HttpHandshake, goodWay
    from nanotun.upstream.httpproxy import HttpUpstream, PortTrial
    from nanotun.upstream.proxy import Handshakes

    proxy = str(url)
    login = loginOf(url, bool(url.option("pipeline")), context.changed)

    def makeTrial(destination: Endpoint) -> PortTrial:
        own = loginOf(url, eager=False)
        return PortTrial(HttpHandshake(destination, proxy, own), own)

    # Once for each log-in, because each flow asks for it.
    way = lru_cache(1)(lambda method: goodWay(login))
    handshakes = Handshakes(
        lambda destination: HttpHandshake(destination, proxy, login),
        goodWay=lambda: way(None if login is None else login.method),
    )
    return HttpUpstream(url, handshakes, context, makeTrial)


HTTP = Scheme(
    "http",
    _make,
    defaultPort=80,
    authentication=Authentication.PASSWORD,
    credentialLimit=CREDENTIAL_LIMIT,
    forbidden=FORBIDDEN,
    options={
        "pipeline": FLAG._replace(help="log in before the proxy asks for it: fewer round trips")
    },
    unixSocket=True,
    sendsNames=True,
    chains=True,
)
