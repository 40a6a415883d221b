"""
Tests for L{nanotun.upstream.direct}.
"""

from __future__ import annotations

import errno
import os
import socket

from twisted.internet.task import Clock
from zope.interface.verify import verifyClass, verifyObject

from nanotun.errors import (
    DestinationSilent,
    UpstreamError,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamProhibited,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import IUpstream
from nanotun.upstream.dial.resolver import SocketAddress
from nanotun.upstream.direct import ERRORS, DirectUpstream
from tests.unit.upstream.upstream_cases import ReactorCase, unmarkedContext


class DirectTests(ReactorCase):
    """
    Tests for L{DirectUpstream}.
    """

    async def test_connects(self) -> None:
        """
        The destination itself is dialled.
        """
        port = self.listen()
        upstream = DirectUpstream(unmarkedContext(self.reactor))
        verifyClass(IUpstream, DirectUpstream)
        verifyObject(IUpstream, upstream)
        connection = await upstream.connect(Endpoint("127.0.0.1", port))
        self.assertEqual(connection.leftover, b"")
        self.assertClean()
        os.close(connection.fd)
        await self.ended()

    async def test_refused(self) -> None:
        """
        A port that is closed refuses the connection.
        """
        upstream = DirectUpstream(unmarkedContext(self.reactor))
        leg = upstream.connect(Endpoint("127.0.0.1", self.closedPort()))
        self.assertIn("Connection refused", await self.failure(UpstreamRefused, leg))

    async def test_leadsIn(self) -> None:
        """
        A destination whose packets would come back is not dialled; its network is
        unreachable.
        """
        context = unmarkedContext(self.reactor)._replace(leadsIn="127.0.0.1".__eq__)
        upstream = DirectUpstream(context)
        leg = upstream.connect(Endpoint("127.0.0.1", self.listen()))
        self.assertIn("into the tunnel", await self.failure(UpstreamNetUnreachable, leg))

    def test_errors(self) -> None:
        """
        The app sees the kernel's error.
        """
        upstream = DirectUpstream(unmarkedContext(Clock()))
        for code, kind in (
            (errno.EHOSTUNREACH, UpstreamHostUnreachable),
            (errno.ENETUNREACH, UpstreamNetUnreachable),
            (errno.EACCES, UpstreamProhibited),
            (errno.ETIMEDOUT, DestinationSilent),
            (errno.EADDRNOTAVAIL, UpstreamError),
        ):
            address = SocketAddress(socket.AF_INET6, ("2001:db8::1", 80))
            error = upstream._notReached(code, address)
            self.assertEqual(type(error), kind)
            self.assertIn("[2001:db8::1]:80", str(error))
        self.assertEqual(ERRORS[errno.ECONNREFUSED], UpstreamRefused)
