"""
What a proxy's answer to a CONNECT, if it is not 2xx, means for the app.

The status alone says little: most proxies have one status for everything that can go
wrong behind them.  If a proxy says more, that is used first: C{Proxy-Status} (RFC
9209), then squid's C{X-Squid-Error}.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable

from nanotun.errors import (
    AuthenticationError,
    DestinationSilent,
    ProxyError,
    UpstreamError,
    UpstreamForbids,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamRefused,
)
from nanotun.flow import Endpoint

#: Statuses (RFC 9110, section 15, unless said otherwise): the predicate of the error's
#: sentence about the destination, and the error that the app sees.
STATUSES: dict[int, tuple[str, type[UpstreamError]]] = {
    # tinyproxy and privoxy filter with 403; 451 is RFC 7725.
    403: ("does not allow connections to {}", UpstreamForbids),
    451: ("does not allow connections to {} for legal reasons", UpstreamForbids),
    # For completeness: L{HttpHandshake} answers a 407 with credentials itself.
    407: ("wants a log-in for {}", AuthenticationError),
    # privoxy and WTE, for names that they cannot look up.
    404: ("cannot find {}", UpstreamHostUnreachable),
    410: ("says that {} is gone", UpstreamHostUnreachable),
    # When it cannot connect, tinyproxy says 500, Apache and mitmproxy say 502, and
    # squid, Envoy and privoxy 503.
    500: ("failed to reach {}", UpstreamHostUnreachable),
    502: ("failed to reach {}", UpstreamHostUnreachable),
    503: ("failed to reach {}", UpstreamHostUnreachable),
    504: ("could not reach {} in time", DestinationSilent),
    # A web server, or a proxy without CONNECT.
    400: ("does not take the request for {}; check that it is an HTTP proxy", ProxyError),
    401: ("answers as a web server, asked for {}; check the proxy's port", ProxyError),
    405: ("does not allow CONNECT, asked for {}", ProxyError),
    426: ("wants another protocol, asked for {}; check the proxy's scheme", ProxyError),
    429: ("has had too many requests, asked for {}", ProxyError),
    501: ("does not know CONNECT, asked for {}", ProxyError),
    505: ("does not speak HTTP/1.1, asked for {}", ProxyError),
}
_OTHER = ("gave an unexpected answer about {}", ProxyError)

#: RFC 9209, section 2.3.
PROXY_STATUS: dict[bytes, tuple[str, type[UpstreamError]]] = {
    b"dns_timeout": ("could not look up {} in time", DestinationSilent),
    b"dns_error": ("cannot look up {}", UpstreamHostUnreachable),
    b"destination_not_found": ("cannot find {}", UpstreamHostUnreachable),
    b"destination_unavailable": ("cannot reach {}", UpstreamHostUnreachable),
    b"destination_ip_prohibited": ("does not allow connections to {}", UpstreamForbids),
    b"destination_ip_unroutable": ("has no route to {}", UpstreamNetUnreachable),
    b"connection_refused": ("was refused by {}", UpstreamRefused),
    b"connection_terminated": ("was cut off by {}", UpstreamRefused),
    b"connection_timeout": ("could not reach {} in time", DestinationSilent),
    b"http_request_denied": ("does not allow connections to {}", UpstreamForbids),
}

#: The number in C{X-Squid-Error: ERR_CONNECT_FAIL 111} is the errno of squid's host,
#: which is nearly always Linux.
SQUID_ERRORS: dict[int, tuple[str, type[UpstreamError]]] = {
    errno.ECONNREFUSED: ("was refused by {}", UpstreamRefused),
    errno.EHOSTUNREACH: ("cannot reach {}", UpstreamHostUnreachable),
    errno.ENETUNREACH: ("has no route to {}", UpstreamNetUnreachable),
    errno.ETIMEDOUT: ("could not reach {} in time", DestinationSilent),
}


#: Characters of a reason that are shown; the usual ones have at most 31.
REASON_LIMIT = 100

#: The page that squid shows, such as ERR_ACCESS_DENIED; its names are shorter.
_SQUID_PAGE = re.compile(rb"[A-Z_]{1,40}(?![^ ])")


def refusal(
    proxy: str,
    destination: Endpoint,
    status: int,
    headers: Iterable[tuple[bytes, bytes]],
    reason: bytes = b"",
    reveals: Callable[[bytes], bool] = lambda text: False,
) -> UpstreamError:
    """
    The error that an answer stands for.

    @param proxy: the proxy's URL without its password.
    @param status: not 2xx.
    @param headers: their names in lower case.
    @param reason: the reason phrase.
    @param reveals: whether a text has something in it that must not be shown: a proxy may
        send back what it got.
    """
    fields = dict(headers)
    exact, (text, kind) = _meaning(status, fields)
    said = text.format(destination)
    details = f"status {status}"
    if reason and not reveals(reason):
        # ASCII only: no control characters, and none that turn the text around.
        details += f" {reason[:REASON_LIMIT].decode('latin-1')!a}"
    page = _SQUID_PAGE.match(fields.get(b"x-squid-error", b""))
    if page and not reveals(page[0]):
        details += f", {page[0].decode('ascii')}"
    # The app sees exactly what a proxy says of a destination that it cannot reach.
    news = not exact or issubclass(kind, (UpstreamForbids, DestinationSilent))
    return kind(f"The proxy {proxy} {said} ({details}).", news, status)


def _meaning(
    status: int, headers: dict[bytes, bytes]
) -> tuple[bool, tuple[str, type[UpstreamError]]]:
    """What it means, and whether the proxy says more than its status."""
    if status >= 500:
        told = re.search(rb"error=([a-z_]+)", headers.get(b"proxy-status", b""))
        if told and told[1] in PROXY_STATUS:
            return True, PROXY_STATUS[told[1]]
        told = re.match(rb"ERR_CONNECT_FAIL ([0-9]{1,3})$", headers.get(b"x-squid-error", b""))
        if told and int(told[1]) in SQUID_ERRORS:
            return True, SQUID_ERRORS[int(told[1])]
    return False, STATUSES.get(status, _OTHER)
