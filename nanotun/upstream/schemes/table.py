"""
Which handshakes a proxy's URL stands for.

HTTP and TLS are imported where a URL asks for them: with what they bring along
they take some 10 ms of a start.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, IHandshake
from nanotun.upstream.handshakes.socks4 import Socks4Handshake
from nanotun.upstream.handshakes.socks5 import UDP_ASSOCIATE, Socks5Handshake
from nanotun.upstream.proxy import Handshakes
from nanotun.upstream.url import ProxyURL

if TYPE_CHECKING:
    from nanotun.upstream.handshakes.httplogin import HttpLogin


def _credentials(url: ProxyURL) -> tuple[bytes, bytes] | None:
    if url.username is None:
        return None
    return url.username.encode(), (url.password or "").encode()


def _socks5(url: ProxyURL, reactor: Any) -> Handshakes:
    proxy, credentials = str(url), _credentials(url)
    # The family says by which one datagrams will come (RFC 1928, section 4).
    nobody = Endpoint("::" if ":" in url.host else "0.0.0.0", 0)
    # A relay for datagrams has to be somewhere, and a path is nowhere.
    hasRelays = not url.host.startswith("/")
    return Handshakes(
        lambda destination: Socks5Handshake(destination, proxy, credentials, pipeline=url.pipeline),
        (lambda: Socks5Handshake(nobody, proxy, credentials, UDP_ASSOCIATE, url.pipeline))
        if hasRelays
        else None,
        greet=lambda: Socks5Handshake(None, proxy, credentials, pipeline=url.pipeline),
    )


def _socks4(url: ProxyURL, reactor: Any) -> Handshakes:
    proxy, user = str(url), (url.username or "").encode()
    return Handshakes(lambda destination: Socks4Handshake(destination, proxy, user))


def _httpLogin(url: ProxyURL, eager: bool) -> HttpLogin | None:
    from nanotun.upstream.handshakes.httplogin import HttpLogin

    credentials = _credentials(url)
    if credentials is None:
        return None
    return HttpLogin(*credentials, lambda: secrets.token_hex(16).encode(), eager)


def _http(url: ProxyURL, reactor: Any) -> Handshakes:
    from nanotun.upstream.handshakes.http import HttpHandshake

    proxy, login = str(url), _httpLogin(url, url.pipeline)
    return Handshakes(lambda destination: HttpHandshake(destination, proxy, login))


def _https(url: ProxyURL, reactor: Any) -> Handshakes:
    from nanotun.upstream.handshakes.http import HttpHandshake
    from nanotun.upstream.handshakes.tls import TlsGreeting, TlsHandshake, makeContext
    from nanotun.upstream.handshakes.tlsrelay import relayTls

    # Nobody but the proxy sees the password, as long as it is the proxy.
    proxy, login = str(url), _httpLogin(url, eager=not url.insecure)
    context = makeContext(url.ca, url.insecure)

    def connect(destination: Endpoint) -> IHandshake:
        return TlsHandshake(HttpHandshake(destination, proxy, login), proxy, context, url.host)

    def carry(handshake: Any, connection: Connection) -> Connection:
        return relayTls(handshake.stream, connection, reactor)

    return Handshakes(connect, carry=carry, greet=lambda: TlsGreeting(proxy, context, url.host))


#: Scheme to what makes the handshakes with one proxy.
HANDSHAKES: dict[str, Callable[[ProxyURL, Any], Handshakes]] = {
    "socks5": _socks5,
    "socks5h": _socks5,
    "socks4": _socks4,
    "socks4a": _socks4,
    "http": _http,
    "https": _https,
}
