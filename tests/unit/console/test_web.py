"""Tests of L{nanotun.console.web}."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from twisted.trial.unittest import SynchronousTestCase

from nanotun.console.web import linkTo, tokenIn
from nanotun.errors import ConfigError, RunningError
from nanotun.flow import Endpoint
from nanotun.rundir import WEB_TOKEN


class WebLinkTests(SynchronousTestCase):
    """L{linkTo} and L{tokenIn}."""

    def test_link(self) -> None:
        """The link leads to the page from this machine, or through a port that is forwarded."""
        for where, expected in (
            (Endpoint("127.0.0.1", 8198), "127.0.0.1:8198"),
            (Endpoint("::1", 80), "[::1]:80"),
            (Endpoint("192.0.2.1", 8198), "192.0.2.1:8198"),
            (Endpoint("0.0.0.0", 8198), "127.0.0.1:8198"),
            (Endpoint("::", 8198), "[::1]:8198"),
            ("/run/nanotun/web.sock", "localhost:8198"),
        ):
            self.assertEqual(linkTo(where, "abc"), f"http://{expected}/?token=abc")

    def test_signs(self) -> None:
        """A token that the user has made, as by base64, is the same at the other end."""
        token = "abc+/=&#%41?token"
        query = urlsplit(linkTo(Endpoint("127.0.0.1", 8198), token)).query
        self.assertEqual(parse_qsl(query), [("token", token)])

    def test_token(self) -> None:
        """The token is read and never made: without one the page is not served."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)
        error = self.assertRaises(RunningError, tokenIn, str(directory))
        self.assertIn("is not served", str(error))
        self.assertEqual(list(directory.iterdir()), [])
        token = directory / WEB_TOKEN
        token.write_text("a-token-of-the-test\n")
        token.chmod(0o600)
        self.assertEqual(tokenIn(str(directory)), "a-token-of-the-test")
        token.chmod(0o644)
        self.assertRaises(ConfigError, tokenIn, str(directory))
