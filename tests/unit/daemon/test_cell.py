"""Tests of L{nanotun.daemon.cellservice.makeCellService}."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any, cast

from twisted.application.service import IService
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.config.options import Options
from nanotun.daemon.cellservice import makeCellService
from nanotun.daemon.networkwatch import NetworkWatch
from nanotun.daemon.patience import Patience
from nanotun.daemon.service import NanotunService
from nanotun.daemon.systemservers import SystemServers
from nanotun.flow import Decision, Endpoint, Flow, Protocol, Verdict
from nanotun.linux.markedroute import MarkedRoute
from nanotun.testing import FakeScript, MemoryTunOpener
from nanotun.upstream.dial.sockets import SO_MARK, UNMARKED
from nanotun.upstream.group.sole import SoleUpstream


class CellServiceTests(SynchronousTestCase):
    """What C{nanotun run} has made."""

    def options(self, proxy: str, *more: str) -> Options:
        """Parsed options."""
        options = Options()
        options.parseOptions(["--proxy", proxy, "--log-dir", "", *more])
        cast(Any, options).parent = {}
        return options

    def test_quiet(self) -> None:
        """The tunnel of C{nanotun run} does nothing to this machine, and asks for no process."""
        opener = MemoryTunOpener()
        root = makeCellService(self.options("127.0.0.1:1"), opener, self.fail)
        verifyObject(IService, root)
        tunnel, upstreams = cast(Any, root)
        self.assertIsInstance(tunnel, NanotunService)
        self.assertFalse(tunnel.running or opener.devices)
        self.assertEqual([type(part) for part in tunnel.parts.before], [MarkedRoute, SystemServers])
        self.assertEqual([type(part) for part in tunnel.parts.after], [NetworkWatch, Patience])
        flow = Flow(1, Protocol.TCP, Endpoint("198.18.0.2", 1), Endpoint("169.254.169.254", 80))
        self.assertEqual(tunnel.parts.router._judge.judge(flow).verdict, Verdict.REJECT)
        sole, services = upstreams
        patience = tunnel.parts.after[1]
        self.assertEqual((patience._proxies(), patience._told()), ([], False))
        self.assertIsInstance(sole, SoleUpstream)
        self.assertEqual(list(services), [])

    def test_patience(self) -> None:
        """A command that waits for a connection hears of the proxies by which it would leave."""
        options = self.options("direct://", "--upstream", "office=http://a,office=http://b")
        (tunnel, _) = cast(Any, makeCellService(options, MemoryTunOpener(), self.fail))
        patience, router = tunnel.parts.after[1], tunnel.parts.router
        for name, proxies in (
            ("office", ["http://a:80", "http://b:80"]),
            # direct:// has nobody to ask.
            ("proxy", []),
        ):
            decision = Decision(Verdict.PROXY, "#1", upstream=name)
            request = SimpleNamespace(flow=Flow(1, Protocol.TCP, *[Endpoint("192.0.2.1", 80)] * 2))
            pending = SimpleNamespace(decision=decision, request=request)
            router.dialling._pending = {1: pending}
            self.assertEqual([each.describe() for each in patience._proxies()], proxies)

    def test_login(self) -> None:
        """Whatever a command sends has its user and name in fields of user names."""
        options = self.options("h", "--upstream", "tor=socks5://{process}-{source}:x@t")
        root = makeCellService(options, MemoryTunOpener(), self.fail, {"process": "curl"})
        _, upstreams = cast(Any, root)
        flow = Flow(1, Protocol.TCP, Endpoint("198.18.0.2", 1), Endpoint("192.0.2.1", 80))
        upstreams.leaving(Decision(Verdict.PROXY, "#1", upstream="tor"), flow)
        (values,) = upstreams.perProgram["tor"]._programs
        self.assertEqual(dict(values), {"process": "curl", "source": "local"})

    def test_script(self) -> None:
        """A script decides, too, and is a part; whether it may send direct is told."""
        for allowed, verdict in (False, Verdict.REJECT), (True, Verdict.DIRECT):
            script: Any = FakeScript("direct")
            script.name, script.start, script.stop = "the script", self.fail, self.fail
            options = self.options("h")
            (tunnel, _) = cast(
                Any, makeCellService(options, MemoryTunOpener(), self.fail, {}, script, allowed)
            )
            self.assertIs(tunnel.parts.before[0], script)
            flow = Flow(1, Protocol.TCP, Endpoint("198.18.0.2", 1), Endpoint("192.0.2.1", 80))
            self.assertEqual(tunnel.parts.router._judge.judge(flow).verdict, verdict)

    def test_fails(self) -> None:
        """A file that is no good ends it with one sentence."""
        options = self.options("https://h?ca=/nowhere/ca.pem")
        error = self.assertRaises(
            SystemExit, makeCellService, options, MemoryTunOpener(), self.fail
        )
        self.assertIn("/nowhere/ca.pem", str(error.code))


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
