"""
Tests for dials of the engine through an HTTP proxy that may forbid CONNECT to port 80.
"""

from __future__ import annotations

import os
from typing import Any

from nanotun.flow import Endpoint
from nanotun.interfaces import DialEndKind
from nanotun.upstream.httpproxy import RETRY
from tests.unit.upstream.plan_cases import PlanCase

WEB = Endpoint("192.0.2.1", 80)
FORBIDDEN = b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
OPEN = b"HTTP/1.1 200 OK\r\n\r\n"


class PortPlansTests(PlanCase):
    """
    Plans for port 80.
    """

    def setUp(self) -> None:
        """Count what changes."""
        super().setUp()
        self.changes: list[bool] = []

    def makeHttp(self, *scripts: tuple[bytes, ...]) -> Any:
        """An upstream by a proxy of these scripts."""
        port = self.each(*scripts)
        return self.makePlanned(f"http://127.0.0.1:{port}", changed=self.change)

    def change(self) -> None:
        """See L{nanotun.interfaces.UpstreamContext}."""
        self.changes.append(True)

    async def test_forbidden(self) -> None:
        """
        If the proxy forbids port 80 to the engine, the flow goes on as plain http, plans that
        stand are called off, and there are none for that port until it is asked for again.
        """
        upstream = self.makeHttp((FORBIDDEN,), (OPEN,), ())
        connection, kind = await self.carryOut(upstream, WEB)
        os.close(connection.fd)
        self.assertEqual(kind, DialEndKind.HANDED)
        self.assertEqual(connection.http.proxy, upstream.describe())
        self.assertEqual(self.changes, [True])
        self.assertIsNone(upstream.plan(WEB))
        self.assertIsNotNone(upstream.plan(WEB._replace(port=443)))
        self.clock.advance(RETRY)
        self.assertIsNotNone(upstream.plan(WEB))
        await self.ended()

    async def test_forbiddenAgain(self) -> None:
        """
        A plan for port 80 from after that time is called off in the same way.
        """
        upstream = self.makeHttp((FORBIDDEN,), (OPEN,), (), (FORBIDDEN,), (OPEN,), ())
        for _ in range(2):
            connection, _ = await self.carryOut(upstream, WEB)
            os.close(connection.fd)
            self.assertIsNone(upstream.plan(WEB))
            self.clock.advance(RETRY)
        self.assertEqual(self.changes, [True, True])
        await self.ended()

    async def test_allowed(self) -> None:
        """
        A dial of the engine that succeeds allows port 80 for a while, so that what one host
        is forbidden is not taken for a rule about the port.
        """
        upstream = self.makeHttp((OPEN,), (FORBIDDEN,), (OPEN,), ())
        for _ in range(2):
            connection, _ = await self.carryOut(upstream, WEB)
            os.close(connection.fd)
        self.assertIsNotNone(connection.http)
        self.assertIsNotNone(upstream.plan(WEB))
        self.assertEqual(self.changes, [])
        await self.ended()
