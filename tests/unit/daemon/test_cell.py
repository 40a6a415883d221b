"""Tests of L{nanotun.daemon.tap.makeCellService} as an ordinary user's run has it."""

from __future__ import annotations

import os
import socket
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.options import Options
from nanotun.daemon.tap import makeCellService
from nanotun.testing import MemoryTunOpener
from nanotun.upstream.dial.sockets import SO_MARK, UNMARKED


class UnmarkedTests(SynchronousTestCase):
    """A cell without privileges."""

    def test_sockets(self) -> None:
        """Its sockets have no mark, and no way leads back into it."""
        options = Options()
        options["proxy"] = "127.0.0.1:1"
        options.readSettings(os.geteuid(), {})
        made = makeCellService(options, MemoryTunOpener(), self.fail, sockets=UNMARKED)
        tunnel, _ = cast(Any, made)
        context = tunnel.parts.router._upstreams._context
        self.assertEqual(context.mark, 0)
        for make in (context.openStream, context.openDatagram):
            with make(socket.AF_INET) as opened:
                self.assertEqual(opened.getsockopt(socket.SOL_SOCKET, SO_MARK), 0)

        def indexOf(name: str) -> int:
            if name != "nano0":
                raise OSError
            return 7

        self.patch(socket, "if_nametoindex", indexOf)
        marked = tunnel.parts.before[0]
        self.patch(marked, "interfaceTo", lambda host: 7)
        self.assertFalse(marked.leadsIn("192.0.2.1"))
