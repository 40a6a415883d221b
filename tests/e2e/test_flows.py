"""
The open flows as the control socket lists them, their end by C{close}, and the lines about them.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from contextlib import AbstractContextManager
from typing import Any

from nanotun.control.client import Client
from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab import curl, nameserver
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon, writeConfig
from tests.e2e.lab.process import waitUntil
from tests.e2e.lab.topology import FAMILIES, IPV4
from tests.e2e.lab.udp import echo
from tests.e2e.test_names import FAKES, NAME, world
from tests.e2e.test_reload import echo as streamEcho

#: Bytes of a download, and bytes of it in a second: it takes much longer than the test.
LENGTH, RATE = 1 << 30, "1M"

#: curl: the connection was reset.
RESET = 56

#: Seconds for what happens as soon as it is asked for.
SOON = 60.0

#: Seconds for curl to notice a reset: it slows itself down.
LATE = 60.0


def hearOnly(sock: socket.socket) -> None:
    """Say nothing."""
    while sock.recv(4096):
        pass


class FlowsChecks(TunnelCase):
    """What the daemon tells of its flows."""

    seconds = 150

    def ask(self, daemon: Daemon, name: str, **arguments: Any) -> Any:
        """What the daemon answers to a control request."""
        with Client(str(daemon.directory / "run")) as client:
            return client.ask(name, arguments)

    def flows(self, daemon: Daemon, **wanted: Any) -> list[dict[str, Any]]:
        """Its flows, all that are or those with some fields."""
        answer = self.ask(daemon, "flows")
        self.assertIs(answer["next"], None)
        flows: list[dict[str, Any]] = answer["flows"]
        return [each for each in flows if wanted.items() <= each.items()]

    def office(self, **settings: object) -> Daemon:
        """A daemon with fake addresses, which sends one domain by an upstream of its own."""
        self.udpServer(world, IPV4, IPV4.world, nameserver.PORT)
        url = self.dante(hosts={NAME: [IPV4.world]}).url()
        daemon = self.daemon(
            proxy=url,
            upstreams={"office": url},
            rules=[{"to": "office", "domains": [NAME]}],
            dns=[IPV4.world],
            dnsMode="fake-ip",
            dnsStateFile=str(self.directory / "fakeip.json"),
            **settings,
        )
        asked = nameserver.ask(self.lab.app, IPV4.gateway, NAME, "A")
        self.assertEqual(asked.data, [FAKES[IPV4]])
        return daemon

    def lines(self, daemon: Daemon, text: str) -> set[str]:
        """The lines of its log with a text; each is on stdout and in a file."""
        return {each for each in daemon.log().splitlines() if text in each}

    def assertTold(self, daemon: Daemon, pattern: str) -> re.Match[str]:
        """There is a line about a flow, or will be soon."""
        waitUntil(lambda: re.search(pattern, daemon.log()), SOON, pattern)
        found = re.search(pattern, daemon.log())
        assert found is not None
        return found

    def downloading(self, port: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """A download by curl, of a name."""
        path, fake = f"/bytes/{LENGTH}", FAKES[IPV4]
        return curl.running(self.lab.app, NAME, fake, port, path, "--limit-rate", RATE)

    def test_download(self) -> None:
        """
        A running download is listed with its name, rule, upstream and growing bytes; close ends
        it, so that the program sees a reset, and a line of the log tells so.
        """
        web = self.webServer()
        daemon = self.office(logFlows=True)
        with self.downloading(web.port) as program:
            waitUntil(lambda: any(each["down"] for each in self.flows(daemon)), SOON, "bytes")
            (flow,) = self.flows(daemon)
            self.assertEqual(flow["destination"], f"{FAKES[IPV4]}:{web.port}")
            told = {key: flow[key] for key in ("protocol", "state", "domain", "verdict")}
            self.assertEqual(
                told,
                {"protocol": "tcp", "state": "open", "domain": NAME, "verdict": "proxy"},
            )
            told = {key: flow[key] for key in ("rule", "upstream", "process")}
            self.assertEqual(told, {"rule": "#1", "upstream": "office", "process": None})
            self.assertRegex(flow["by"], r"^socks5://10\.77\.1\.1:\d+$")
            self.assertGreater(flow["up"], 0)
            waitUntil(
                lambda: self.flows(daemon)[0]["down"] > flow["down"], SOON, "there are more bytes"
            )
            self.assertEqual(self.ask(daemon, "close", ids=[flow["id"]]), {"closed": 1})
            self.assertEqual(program.wait(LATE), RESET)
            self.assertEqual(self.flows(daemon), [])
            self.assertEqual(self.ask(daemon, "close", ids=[flow["id"]]), {"closed": 0})
        ends = f"{re.escape(flow['source'])} to {re.escape(flow['destination'])}"
        found = self.assertTold(
            daemon,
            rf"TCP flow {flow['id']} from {ends} \({NAME}\) by office, socks5://\S+ \(rule #1\) "
            r"ended: \d+ bytes up, (\d+) down, [\d.]+ s, ended by nanotun",
        )
        self.assertGreaterEqual(int(found[1]), flow["down"])
        self.assertEndsWell(daemon)

    def test_program(self) -> None:
        """A daemon that records flows finds the program of one, which a rule did not need."""
        web = self.webServer()
        daemon = self.office(flowLog=str(self.directory / "flows.db"))
        with self.downloading(web.port) as program:
            waitUntil(lambda: any(e["process"] for e in self.flows(daemon)), SOON, "a program")
            (flow,) = self.flows(daemon)
            process = flow["process"]
            # ip, which has brought it there, has become curl.
            self.assertEqual((process["pid"], process["name"]), (program.pid, "curl"))
            self.assertEqual(process["uid"], os.geteuid())
        self.assertEndsWell(daemon)

    def test_datagrams(self) -> None:
        """
        UDP flows are listed; one that is closed is forgotten, and the next datagram begins
        another one; a line tells of each end.
        """
        daemon = self.tunnel(logFlows=True, udpTimeout="2s")
        for family in FAMILIES:
            server = self.udpServer(echo, family)
            app = self.datagrams(server.port, family.world)
            self.assertEchoes(app, b"12345")
            (flow,) = self.flows(daemon, protocol="udp")
            self.assertEqual((flow["state"], flow["rule"]), ("open", "default"))
            self.assertEqual((flow["up"], flow["down"], flow["domain"]), (5, 5, None))
            self.assertEqual(self.ask(daemon, "close", ids=[flow["id"]]), {"closed": 1})
            self.assertEqual(self.flows(daemon, protocol="udp"), [])
            self.assertEchoes(app, b"123")
            (again,) = self.flows(daemon, protocol="udp")
            self.assertNotEqual(again["id"], flow["id"])
            for each, up, how in ((flow, 5, "ended by nanotun"), (again, 3, "idle")):
                line = rf"UDP flow {each['id']} .*: {up} bytes up, {up} down, [\d.]+ s, {how}"
                self.assertTold(daemon, line)
        self.assertEndsWell(daemon)

    def test_standing(self) -> None:
        """
        Connections that the engine makes by itself are listed with the rule that has once
        decided about their destination, can be closed, and have a line at their end.
        """
        peer = self.peer(streamEcho)
        daemon = self.tunnel(logFlows=True)
        socks = []
        for _ in range(5):
            socks.append(self.connect(peer.port))
            self.assertEchoes(socks[-1])
        flows = self.flows(daemon, state="open")
        self.assertEqual([each["rule"] for each in flows], ["default"] * 5)
        self.assertEqual({each["upstream"] for each in flows}, {"proxy"})
        self.assertEqual(self.ask(daemon, "status")["verdicts"]["paths"]["standing"], 3)
        ends = [each.getsockname()[1] for each in socks]
        self.assertEqual([int(each["source"].rpartition(":")[2]) for each in flows], ends)
        self.assertEqual(self.ask(daemon, "close", ids=[flows[-1]["id"]]), {"closed": 1})
        self.assertRaises(ConnectionResetError, socks[-1].recv, 1)
        for sock in socks:
            sock.close()
        for each in flows:
            self.assertTold(daemon, f"TCP flow {each['id']} from {re.escape(each['source'])}")
        self.assertEqual(len(self.lines(daemon, "TCP flow")), 5)
        self.assertEndsWell(daemon)

    def test_dialled(self) -> None:
        """
        A connection to a proxy that says nothing is listed as dialled, with its rule; closed, it
        is refused at once.
        """
        proxy = self.peer(hearOnly, self.lab.proxy)
        daemon = self.daemon(proxy=f"socks5://{IPV4.proxy}:{proxy.port}", connectTimeout="1m")
        sock = self.lab.app.makeSocket(socket.AF_INET)
        self.addCleanup(sock.close)
        sock.setblocking(False)
        self.assertRaises(BlockingIOError, sock.connect, (IPV4.world, 9))
        waitUntil(lambda: self.flows(daemon, state="dialling"), SOON, "it is dialled")
        (flow,) = self.flows(daemon)
        self.assertEqual((flow["rule"], flow["up"]), ("default", 0))
        self.assertEqual(self.ask(daemon, "close", ids=[flow["id"]]), {"closed": 1})
        sock.settimeout(SOON)
        self.assertRaises(ConnectionRefusedError, sock.connect, (IPV4.world, 9))
        self.assertEqual(self.flows(daemon), [])

    def test_pages(self) -> None:
        """Hundreds of flows come in pages, each once."""
        peer = self.peer(streamEcho, timeout=60)
        daemon = self.tunnel()
        socks = [self.connect(peer.port) for _ in range(250)]
        found: list[dict[str, Any]] = []
        after: int | None = 0
        sizes = []
        while after is not None:
            page = self.ask(daemon, "flows", after=after, limit=100)
            found += page["flows"]
            sizes.append(len(page["flows"]))
            after = page["next"]
        self.assertEqual(sizes, [100, 100, 50])
        ports = {each.getsockname()[1] for each in socks}
        self.assertEqual({int(each["source"].rpartition(":")[2]) for each in found}, ports)
        ids = [each["id"] for each in found]
        self.assertEqual(ids, sorted(set(ids)))
        self.assertEqual(self.ask(daemon, "close", ids=ids), {"closed": 250})
        self.assertEqual(self.flows(daemon), [])

    def test_reload(self) -> None:
        """Lines about flows begin with a reload, also for flows that are open."""
        peer = self.peer(streamEcho)
        url = self.dante().url()
        daemon = self.daemon(proxy=url)
        sock = self.connect(peer.port)
        self.assertEchoes(sock)
        (flow,) = self.flows(daemon)
        changed = {"stackMode": self.stackMode, "proxy": url, "logFlows": True}
        writeConfig(daemon.directory, changed)
        done = say("reload", "--run-dir", str(daemon.directory / "run"))
        self.assertEqual(done.stdout, "Changed: logFlows.\n")
        sock.close()
        source = re.escape(flow["source"])
        self.assertTold(
            daemon,
            rf"TCP flow {flow['id']} from {source} .*\(rule default\) ended: 13 bytes up, 13 down",
        )


engines(globals(), FlowsChecks)
del FlowsChecks
