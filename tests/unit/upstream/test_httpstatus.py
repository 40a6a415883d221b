"""Tests of L{nanotun.upstream.handshakes.httpstatus}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

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
from nanotun.upstream.handshakes.httpstatus import refusal


class RefusalTests(SynchronousTestCase):
    """L{refusal}."""

    def kind(self, status: int, *headers: tuple[bytes, bytes]) -> type[UpstreamError]:
        """The type of the error that the app sees."""
        error = refusal("http://p:80", Endpoint("::1", 443), status, headers)
        self.assertIn("The proxy http://p:80 ", str(error))
        self.assertIn("[::1]:443", str(error))
        self.assertTrue(str(error).endswith(f"(status {status})."))
        return type(error)

    def test_status(self) -> None:
        """Every status has one meaning, and an unknown one is the proxy's fault."""
        for status, kind in {
            302: ProxyError,
            400: ProxyError,
            401: ProxyError,
            403: UpstreamProhibited,
            404: UpstreamHostUnreachable,
            405: ProxyError,
            407: AuthenticationError,
            429: ProxyError,
            451: UpstreamProhibited,
            500: UpstreamHostUnreachable,
            501: ProxyError,
            502: UpstreamHostUnreachable,
            503: UpstreamHostUnreachable,
            504: UpstreamTimeout,
            599: ProxyError,
        }.items():
            self.assertEqual(self.kind(status), kind, status)

    def test_proxyStatus(self) -> None:
        """RFC 9209's field is used first, and only for a failure."""
        for value, kind in {
            b"p; error=connection_refused": UpstreamRefused,
            b'p;next-hop="x";error=destination_ip_unroutable; details=x': UpstreamNetUnreachable,
            b"p; error=dns_error; rcode=NXDOMAIN": UpstreamHostUnreachable,
            b"p; error=connection_timeout": UpstreamTimeout,
            b"p; error=destination_ip_prohibited": UpstreamProhibited,
            b"p; error=unheard_of": UpstreamHostUnreachable,
            b"p": UpstreamHostUnreachable,
        }.items():
            self.assertEqual(self.kind(503, (b"proxy-status", value)), kind, value)
        self.assertEqual(
            self.kind(403, (b"proxy-status", b"p; error=connection_refused")), UpstreamProhibited
        )

    def test_squid(self) -> None:
        """squid's errno is used."""
        for value, kind in {
            b"ERR_CONNECT_FAIL 111": UpstreamRefused,
            b"ERR_CONNECT_FAIL 113": UpstreamHostUnreachable,
            b"ERR_CONNECT_FAIL 101": UpstreamNetUnreachable,
            b"ERR_CONNECT_FAIL 110": UpstreamTimeout,
            b"ERR_CONNECT_FAIL 5": UpstreamHostUnreachable,
            b"ERR_DNS_FAIL 0": UpstreamHostUnreachable,
        }.items():
            self.assertEqual(self.kind(503, (b"x-squid-error", value)), kind, value)
