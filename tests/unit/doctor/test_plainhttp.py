"""
Tests for L{nanotun.doctor.plainhttp}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from nanotun.doctor.finding import Level
from nanotun.doctor.plainhttp import PlainHttpCheck
from nanotun.doctor.upstreams import ProxyCheck
from nanotun.errors import UpstreamError, UpstreamForbids, UpstreamRefused
from nanotun.flow import Endpoint
from nanotun.interfaces import PlainHttp
from nanotun.testing import FakeUpstream
from tests.unit.doctor.doctor_cases import CheckCase
from tests.unit.doctor.peer_cases import QUESTION, SERVER

HTTP = PlainHttp("http://proxy:3128", b"", lambda: None)


class PlainHttpTests(CheckCase):
    """L{PlainHttpCheck}."""

    def setUp(self) -> None:
        """Make a proxy whose answers the test gives."""
        super().setUp()
        self.upstream = FakeUpstream("http://proxy:3128")

    def begin(self) -> Any:
        """Run the check; return its findings."""
        upstream: Any = self.upstream
        self.check = PlainHttpCheck(upstream, "example.org")
        found = self.check.run()
        self.assertEqual(self.upstream.asked, [Endpoint("example.org", 80)])
        self.upstream.asked.clear()
        return found

    def assertFound(self, found: Any, level: Level, *words: str) -> None:
        """There is one finding, of this level and with these words."""
        (finding,) = self.successResultOf(found)
        self.assertSentences([finding], self.check)
        self.assertEqual(finding.level, level)
        for word in words:
            self.assertIn(word, f"{finding.text} {finding.cure}")

    def test_connects(self) -> None:
        """A proxy that connects to port 80 is well."""
        found = self.begin()
        self.upstream.answer().close()
        self.assertFound(found, Level.OK, "connects to port 80 of example.org.")

    def test_requests(self) -> None:
        """One that takes requests only is named, with what else would need."""
        found = self.begin()
        self.upstream.answer(http=HTTP).close()
        self.assertFound(found, Level.INFO, "as requests to a proxy.", "For WebSockets")

    def test_forbids(self) -> None:
        """Plain http that does not work is a warning, with the reason."""
        found = self.begin()
        self.upstream.fail(UpstreamForbids("It forbids it (status 403).", True, 403))
        self.assertFound(found, Level.WARN, "does not work", "It forbids it (status 403).")

    def test_otherwise(self) -> None:
        """A host without a web server says nothing about the proxy."""
        errors: tuple[UpstreamError, ...] = (
            UpstreamRefused("Refused.", status=503),
            UpstreamRefused("Refused."),
        )
        for error in errors:
            found = self.begin()
            self.upstream.fail(error)
            self.assertFound(found, Level.INFO, "does not connect to port 80", "Refused.")

    def test_target(self) -> None:
        """If the target itself is on port 80, nobody claims that the proxy connects to it."""
        check = ProxyCheck(
            self.upstream, Clock(), Endpoint("h", 80), SERVER, QUESTION, isProxy=False
        )
        found = check.run()
        self.upstream.carriesDatagrams = False
        self.upstream.answerCheck()
        self.upstream.answer(http=HTTP).close()
        finding = self.successResultOf(found)[1]
        self.assertEqual(finding.level, Level.INFO)
        self.assertIn("forbids CONNECT to h:80", finding.text)
