"""
Log-ins that depend on the flow, as the proxy sees them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from nanotun.upstream.url import plain
from tests.e2e.case import engines
from tests.e2e.lab.badsocks import LogIns
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.record import whyNoRecord
from tests.e2e.lab.topology import IPV4, IPV6
from tests.e2e.schemes import ProgramsCase
from tests.e2e.test_flow_rules_processes import unrecorded
from tests.e2e.test_owners import tellPeer

SECRET = "hunter2"

AS_DAEMON, AS_NOBODY = (
    ("setpriv", f"--reuid={user}", "--regid=65534", "--clear-groups")
    for user in ("daemon", "nobody")
)


class CredentialChecks(ProgramsCase):
    """A proxy whose user name is a template."""

    programs = ("curl", "setpriv", "wget")

    def setUp(self) -> None:
        """Start a proxy that notes who logs in, and a server behind it."""
        super().setUp()
        self.logIns = LogIns(self.lab.proxy)
        self.proxy = self.peer(self.logIns.serve, self.lab.proxy, 60)
        self.port = self.peer(tellPeer).port
        self.url = self.family.url(self.port, "/")

    def through(self, template: str, **settings: object) -> Daemon:
        """A daemon that logs in by this template."""
        url = f"socks5://{template}:{SECRET}@{IPV4.proxy}:{self.proxy.port}"
        return self.daemon(proxy=url, **settings)

    def fetch(self, *prefix: str) -> None:
        """Have curl and wget fetch from the server."""
        programs: Sequence[Sequence[str]] = (
            ("curl", "-q", "-s", "-m", "60"),
            ("wget", "--no-config", "-q", "-T", "60", "-t", "1", "-O", "-"),
        )
        for argv in programs:
            told = self.lab.app.run([*prefix, *argv, self.url]).stdout
            self.assertEqual(told, self.family.proxyOutside, argv)

    def test_users(self) -> None:
        """
        Two users are two log-ins, however many connections their programs make, each with two
        connections in stock; nanotun's own log-in has as many as are wanted.
        """
        daemon = self.through("{user}-x", upstreamPool=8)
        for _ in range(3):
            self.fetch(*AS_NOBODY)
            self.fetch(*AS_DAEMON)
        self.assertEqual(set(self.logIns.seen), {"root-x", "nobody-x", "daemon-x"})
        stock = {"root-x": 8, "nobody-x": 2, "daemon-x": 2}
        waitUntil(lambda: self.logIns.waiting == stock, PATIENCE, "connections in stock")
        status = json.loads(say("status", "--json", "--run-dir", f"{daemon.directory}/run").stdout)
        self.assertEqual(status["upstreams"]["proxy"]["programs"], 2)
        (proxy,) = status["upstreams"]["proxy"]["proxies"]
        self.assertEqual(proxy["url"], f"socks5://{{user}}-x:***@{IPV4.proxy}:{self.proxy.port}")
        for text in (daemon.log(), json.dumps(status)):
            self.assertNotIn(SECRET, text)
            self.assertNotIn("nobody-x", text)
        self.assertEndsWell(daemon)

    def test_programs(self) -> None:
        """
        Two programs of two users are four log-ins, with the kernel's record of who makes a socket
        and without it.
        """
        users = ("nobody", "daemon")
        programs = {f"{user}-{name}" for user in users for name in ("curl", "wget")}
        for recorded in (True, False):
            if not recorded:
                unrecorded(self)
            self.logIns.seen.clear()
            daemon = self.through("{user}-{process}")
            for _ in range(2):
                self.fetch(*AS_NOBODY)
                self.fetch(*AS_DAEMON)
            self.assertEqual(set(self.logIns.seen) - {"root-nanotun"}, programs)
            for each in programs:
                self.assertEqual(self.logIns.seen.count(each), 2, each)
            runDir = f"{daemon.directory}/run"
            status = json.loads(say("status", "--json", "--run-dir", runDir).stdout)
            self.assertEqual(status["upstreams"]["proxy"]["programs"], len(programs))
            known = recorded and not whyNoRecord()
            self.assertIs(status["processes"]["recorded"], known)
            self.assertEndsWell(daemon)

    def test_source(self) -> None:
        """Flows of this machine have one source, and a number stands for a user as well."""
        self.through("{uid}.{source}")
        self.fetch(*AS_NOBODY)
        self.assertIn("65534.local", self.logIns.seen)
        self.assertEqual(set(self.logIns.seen), {"65534.local", "0.local"})

    def test_machine(self) -> None:
        """A flow of another machine has that one's address for its source, and no user."""
        self.through("{user}.{source}")
        machines = self.lab.plugMachines()
        for address in (IPV4.world, IPV6.world):
            with machines.connect((address, self.port)) as machine:
                machine.sendall(b"GET / HTTP/1.0\r\n\r\n")
                self.assertIn(b"200 OK", machine.recv(1000))
        self.assertEqual(
            set(self.logIns.seen) - {"root.local"},
            {"unknown.10.79.0.2", f"unknown.{plain('fd79::2')}"},
        )


engines(globals(), CredentialChecks)
# Otherwise trial would run the base class, too.
del CredentialChecks
