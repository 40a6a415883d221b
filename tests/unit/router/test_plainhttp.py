"""
Tests for L{nanotun.router.plainhttp}.
"""

from __future__ import annotations

import errno
from functools import partial

from nanotun.flow import AbsoluteForm, Endpoint, NotHttp
from nanotun.interfaces import PlainHttp
from nanotun.router.plainhttp import REASONS
from nanotun.testing import FakeNames
from tests.unit.router.test_router import RouterCase

FAKE = "198.19.0.1"
PROXY = "http://u:***@10.77.1.1:3128"
HTTP = PlainHttp(PROXY, b"Basic dTpw", lambda: None)


class PlainHttpTests(RouterCase):
    """
    Tests for flows to a proxy that takes plain http only.
    """

    def makeNames(self) -> FakeNames:
        """With a fake address, whose end nobody has to be told."""
        names = super().makeNames()
        names.known = {FAKE: "name.example", "192.0.2.9": "guess.example"}
        return names

    def join(self, host: str, http: PlainHttp | None = HTTP) -> int:
        """Have an app connect, and the upstream answer; return the flow's id."""
        flowID: int = self.engine.request(Endpoint(host, 80)).flow.id
        self.addCleanup(self.upstream.answer(http=http).close)
        return flowID

    def test_authority(self) -> None:
        """
        The authority is an address's name only if the address is fake; an IPv6 address is
        in brackets.  The log-in goes to the engine with it.
        """
        for host, authority in (
            (FAKE, "name.example"),
            ("192.0.2.9", "192.0.2.9"),
            ("2001:db8::1", "[2001:db8::1]"),
        ):
            flowID = self.join(host)
            self.assertEqual(self.engine.forms[flowID], AbsoluteForm(authority, b"Basic dTpw"))

    def test_others(self) -> None:
        """
        A leg that leads to its destination is joined as it is.
        """
        self.assertIs(self.engine.forms[self.join("192.0.2.1", None)], None)
        self.assertFalse(self.router.followsFlows)

    def test_reset(self) -> None:
        """
        Each reason for a reset is one line at info, with the destination and the proxy.
        """
        for reason in REASONS:
            flow = self.engine.request(Endpoint("192.0.2.9", 80)).flow
            self.addCleanup(self.upstream.answer(http=HTTP).close)
            self.router.flowNotHttp(flow, reason)
            self.engine.end(flow.id, errno.EPROTO)
        lines = self.lines("info")
        self.assertEqual(len(lines), len(REASONS))
        for line, rest in zip(lines, REASONS.values(), strict=True):
            self.assertEqual(
                line,
                f"The connection to 192.0.2.9:80 (guess.example) was reset: the proxy {PROXY} "
                f"forbids CONNECT to port 80, so only plain http passes there, and the app {rest}",
            )

    def test_everyReason(self) -> None:
        """
        There is a sentence for each reason that the engine can have.
        """
        self.assertEqual({*REASONS, NotHttp.LOGIN}, set(NotHttp))

    def test_login(self) -> None:
        """
        A proxy that does not accept the log-in, or asks for one late, is named, with the
        cure, and so is the upstream told.
        """
        refused: list[bytes] = []
        for authorization, rest in (
            (
                b"Basic dTpw",
                "did not accept the one that it asked for with CONNECT; check the user and "
                "password in the proxy's URL.",
            ),
            (b"", "has not asked for one before; try again, now that it has."),
        ):
            flow = self.engine.request(Endpoint("192.0.2.1", 80)).flow
            http = PlainHttp(PROXY, authorization, partial(refused.append, authorization))
            self.addCleanup(self.upstream.answer(http=http).close)
            self.router.flowNotHttp(flow, NotHttp.LOGIN)
            self.assertEqual(
                self.lines("info")[-1],
                f"The connection to 192.0.2.1:80 was reset: the proxy {PROXY} wants a log-in for "
                f"plain http (status 407), and {rest}",
            )
        self.assertEqual(refused, [b"Basic dTpw", b""])

    def test_followed(self) -> None:
        """
        Ends are followed while such a flow is open, and no longer.
        """
        first, second = self.join("192.0.2.1"), self.join("2001:db8::1")
        self.engine.end(first)
        self.assertTrue(self.router.followsFlows)
        self.engine.end(second)
        self.assertFalse(self.router.followsFlows)

    def test_gone(self) -> None:
        """
        A flow whose app gave up before the join is not waited for.
        """
        request = self.engine.request(Endpoint("192.0.2.1", 80))
        self.engine.vanish(request.flow.id)
        self.upstream.answer(http=HTTP).close()
        self.assertFalse(self.router.followsFlows)

    def test_secret(self) -> None:
        """
        The text of a leg or a form shows no password.
        """
        form = AbsoluteForm("h", b"Basic dTpw")
        self.assertNotIn("dTpw", repr(HTTP) + str(HTTP) + repr(form) + str(form))
