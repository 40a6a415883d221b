"""Tests of L{nanotun.httpd.guard}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.httpd.guard import hasToken, namesAddress


class HttpGuardTests(SynchronousTestCase):
    """L{namesAddress} and L{hasToken}."""

    def test_addresses(self) -> None:
        """An address of either version and localhost are good, with or without a port."""
        for host in (
            b"127.0.0.1",
            b"127.0.0.1:9198",
            b"192.0.2.7:80",
            b"[::1]",
            b"[2001:db8::1]:9198",
            b"localhost",
            b"LocalHost:9198",
        ):
            self.assertTrue(namesAddress(host), host)

    def test_names(self) -> None:
        """Names are not, nor what only looks like an address, nor nothing."""
        for host in (
            None,
            b"",
            b":9198",
            b"evil.example",
            b"evil.example:9198",
            b"localhost.evil.example",
            b"127.0.0.1.evil.example:9198",
            b"127.0.0.1:evil",
            b"127.0.0.1:",
            b"[evil.example]",
            b"[127.0.0.1]",
            b"::1",
            b"[::1",
            b"127.0.0.1@evil.example",
            b"\xff",
        ):
            self.assertFalse(namesAddress(host), host)

    def test_token(self) -> None:
        """The token is good as a bearer's, and nothing else is."""
        for header in (b"Bearer secret", b"bearer  secret "):
            self.assertTrue(hasToken(header, "secret"), header)
        self.assertFalse(hasToken(None, "secret"))
        for header in (
            b"",
            b"secret",
            b"Basic secret",
            b"Bearer",
            b"Bearer secre",
            b"Bearer \xff",
        ):
            self.assertFalse(hasToken(header, "secret"), header)
