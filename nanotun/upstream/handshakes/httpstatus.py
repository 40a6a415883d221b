"""
What a proxy's answer to a CONNECT, if it is not 2xx, means for the app.

The status alone says little: most proxies have one status for everything that can go
wrong behind them.  If a proxy says more, that is used first: C{Proxy-Status} (RFC
9209), then squid's C{X-Squid-Error}.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from nanotun.errors import (
    AuthenticationError,
    ProxyError,
    UpstreamError,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamProhibited,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.flow import Endpoint

#: Statuses (RFC 9110, section 15, unless said otherwise): the predicate of the error's
#: sentence about the destination, and the error that the app sees.
STATUSES: dict[int, tuple[str, type[UpstreamError]]] = {
    # tinyproxy and privoxy filter with 403; 451 is RFC 7725.
    403: ("does not allow connections to {}", UpstreamProhibited),
    451: ("does not allow connections to {} for legal reasons", UpstreamProhibited),
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
    504: ("could not reach {} in time", UpstreamTimeout),
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
    b"dns_timeout": ("could not look up {} in time", UpstreamTimeout),
    b"dns_error": ("cannot look up {}", UpstreamHostUnreachable),
    b"destination_not_found": ("cannot find {}", UpstreamHostUnreachable),
    b"destination_unavailable": ("cannot reach {}", UpstreamHostUnreachable),
    b"destination_ip_prohibited": ("does not allow connections to {}", UpstreamProhibited),
    b"destination_ip_unroutable": ("has no route to {}", UpstreamNetUnreachable),
    b"connection_refused": ("was refused by {}", UpstreamRefused),
    b"connection_terminated": ("was cut off by {}", UpstreamRefused),
    b"connection_timeout": ("could not reach {} in time", UpstreamTimeout),
    b"http_request_denied": ("does not allow connections to {}", UpstreamProhibited),
}

#: The number in C{X-Squid-Error: ERR_CONNECT_FAIL 111} is the errno of squid's host,
#: which is nearly always Linux.
SQUID_ERRORS: dict[int, tuple[str, type[UpstreamError]]] = {
    errno.ECONNREFUSED: ("was refused by {}", UpstreamRefused),
    errno.EHOSTUNREACH: ("cannot reach {}", UpstreamHostUnreachable),
    errno.ENETUNREACH: ("has no route to {}", UpstreamNetUnreachable),
    errno.ETIMEDOUT: ("could not reach {} in time", UpstreamTimeout),
}


def refusal(
    proxy: str, destination: Endpoint, status: int, headers: Iterable[tuple[bytes, bytes]]
) -> UpstreamError:
    """
    The error that an answer stands for.

    @param proxy: the proxy's URL without its password.
    @param status: not 2xx.
    @param headers: their names in lower case.
    """
    text, kind = _reason(status, dict(headers))
    said = text.format(destination)
    return kind(f"The proxy {proxy} {said} (status {status}).")


def _reason(status: int, headers: dict[bytes, bytes]) -> tuple[str, type[UpstreamError]]:
    if status >= 500:
        told = re.search(rb"error=([a-z_]+)", headers.get(b"proxy-status", b""))
        if told and told[1] in PROXY_STATUS:
            return PROXY_STATUS[told[1]]
        told = re.match(rb"ERR_CONNECT_FAIL ([0-9]{1,3})$", headers.get(b"x-squid-error", b""))
        if told and int(told[1]) in SQUID_ERRORS:
            return SQUID_ERRORS[int(told[1])]
    return STATUSES.get(status, _OTHER)
