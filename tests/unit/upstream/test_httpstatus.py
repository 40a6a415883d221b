"""Tests of L{nanotun.upstream.handshakes.httpstatus}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

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
from nanotun.upstream.handshakes.httpstatus import refusal


class RefusalTests(SynchronousTestCase):
    """L{refusal}."""

    def kind(self, status: int, *headers: tuple[bytes, bytes]) -> type[UpstreamError]:
        """The type of the error that the app sees."""
        error = refusal("http://p:80", Endpoint("::1", 443), status, headers)
        self.assertIn("The proxy http://p:80 ", str(error))
        self.assertIn("[::1]:443", str(error))
        self.assertRegex(str(error), rf"\(status {status}(, ERR_[A-Z_]+)?\)\.$")
        self.news = error.news
        return type(error)

    def test_status(self) -> None:
        """Every status has one meaning, and an unknown one is the proxy's fault."""
        for status, kind in {
            302: ProxyError,
            400: ProxyError,
            401: ProxyError,
            403: UpstreamForbids,
            404: UpstreamHostUnreachable,
            405: ProxyError,
            407: AuthenticationError,
            429: ProxyError,
            451: UpstreamForbids,
            500: UpstreamHostUnreachable,
            501: ProxyError,
            502: UpstreamHostUnreachable,
            503: UpstreamHostUnreachable,
            504: DestinationSilent,
            599: ProxyError,
        }.items():
            self.assertEqual(self.kind(status), kind, status)
            self.assertTrue(self.news, status)

    def test_proxyStatus(self) -> None:
        """RFC 9209's field is used first, and only for a failure."""
        for value, kind in {
            b"p; error=connection_refused": UpstreamRefused,
            b'p;next-hop="x";error=destination_ip_unroutable; details=x': UpstreamNetUnreachable,
            b"p; error=dns_error; rcode=NXDOMAIN": UpstreamHostUnreachable,
            b"p; error=connection_timeout": DestinationSilent,
            b"p; error=destination_ip_prohibited": UpstreamForbids,
            b"p; error=unheard_of": UpstreamHostUnreachable,
            b"p": UpstreamHostUnreachable,
        }.items():
            self.assertEqual(self.kind(503, (b"proxy-status", value)), kind, value)
        self.assertEqual(
            self.kind(403, (b"proxy-status", b"p; error=connection_refused")), UpstreamForbids
        )

    def test_squid(self) -> None:
        """squid's errno is used."""
        for value, kind in {
            b"ERR_CONNECT_FAIL 111": UpstreamRefused,
            b"ERR_CONNECT_FAIL 113": UpstreamHostUnreachable,
            b"ERR_CONNECT_FAIL 101": UpstreamNetUnreachable,
            b"ERR_CONNECT_FAIL 110": DestinationSilent,
            b"ERR_CONNECT_FAIL 5": UpstreamHostUnreachable,
            b"ERR_DNS_FAIL 0": UpstreamHostUnreachable,
        }.items():
            self.assertEqual(self.kind(503, (b"x-squid-error", value)), kind, value)

    def test_news(self) -> None:
        """
        What the app sees itself is no news: a host that is not reached, if the proxy says how.
        """
        for value, news in ((b"connection_refused", False), (b"connection_timeout", True)):
            self.kind(503, (b"proxy-status", b"p; error=" + value))
            self.assertEqual(self.news, news, value)


class ReasonTests(SynchronousTestCase):
    """L{refusal} and what the proxy says beside the status."""

    def details(self, reason: bytes, *headers: tuple[bytes, bytes], secret: bytes = b"\0") -> str:
        """The parenthesis at the error's end."""
        destination = Endpoint("example.org", 22)
        error = refusal(
            "http://p:80", destination, 403, headers, reason, lambda text: secret in text
        )
        said = "The proxy http://p:80 does not allow connections to example.org:22 "
        self.assertTrue(str(error).startswith(said), error)
        return str(error).removeprefix(said)

    def test_shown(self) -> None:
        """The reason is shown behind the status, and so is the name of squid's page."""
        self.assertEqual(self.details(b"Forbidden"), "(status 403 'Forbidden').")
        squid = (b"x-squid-error", b"ERR_ACCESS_DENIED 0")
        self.assertEqual(
            self.details(b"Forbidden", squid), "(status 403 'Forbidden', ERR_ACCESS_DENIED)."
        )
        self.assertEqual(self.details(b"", squid), "(status 403, ERR_ACCESS_DENIED).")
        self.assertEqual(self.details(b""), "(status 403).")

    def test_escaped(self) -> None:
        """Nothing that a terminal obeys gets through, and a long reason is cut."""
        said = self.details(b"\x1b[2J\xe2\x80\xae" + b"x" * 500)
        self.assertTrue(said.isprintable() and said.isascii(), said)
        self.assertIn("\\x1b[2J", said)
        self.assertLess(len(said), 200)
        for page in (b"ERR_\x1b 0", b"x" * 50, b"A" * 41):
            self.assertEqual(self.details(b"No", (b"x-squid-error", page)), "(status 403 'No').")

    def test_secret(self) -> None:
        """What reveals the password is not shown."""
        self.assertEqual(self.details(b"not with hunter2", secret=b"hunter2"), "(status 403).")
        squid = (b"x-squid-error", b"HUNTER 0")
        self.assertEqual(self.details(b"No", squid, secret=b"HUNTER"), "(status 403 'No').")
