"""
The demonstration in three network namespaces, with dante as the upstream and a web server
behind it.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
from pathlib import Path

from tests.e2e.demo.show import DIM, ENGINES, PLAIN, carried, pings, say, started, stopped
from tests.e2e.lab import curl, pattern, udp
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.nameserver import Unbound, ask
from tests.e2e.lab.process import LabError
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.servers import WebServer
from tests.e2e.lab.topology import FAMILIES, IPV4, TUN_NAME, Family, Lab

LENGTH = 256 * 1024 * 1024
"""Bytes of each download: enough to measure a speed, few enough to wait for."""


def inNamespaces() -> None:
    """
    The demonstration without a proxy of the user.

    @raise LabError: something did not work.
    """
    pattern.sha256(LENGTH)  # Now, so that its time is in no figure.
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotun-run-")))
        lab = Lab()
        stack.callback(lab.remove)
        web = WebServer(lab.world, directory)
        stack.callback(web.stop)
        dante = Dante(lab.proxy, directory)
        stack.callback(dante.stop)
        names = Unbound(lab.world, directory, [IPV4.world])
        stack.callback(names.stop)
        say(
            "Three network namespaces: "
            f"app (curl, nanotun) | proxy ({dante.shown}) | world (servers)."
        )
        say(f"The app reaches the world by {TUN_NAME} only; its default routes, as typed by hand:")
        for family in FAMILIES:
            version = "ip" if family is IPV4 else "ip -6"
            say(f"  {version} route add default via {family.gateway} dev {TUN_NAME}")
        for stackMode in ENGINES:
            say()
            tunnelled(lab, dante, web, stackMode, directory / stackMode)


def tunnelled(lab: Lab, dante: Dante, web: WebServer, stackMode: str, directory: Path) -> None:
    """
    One engine in the namespaces: start, ping, download over both IP versions.

    @raise LabError: something did not work; the text is a sentence, perhaps with a log.
    """
    daemon = Daemon(lab.app, directory, stackMode=stackMode, proxy=dante.url(), dns=IPV4.world)
    try:
        lab.routeThroughTunnel()
        started(daemon, stackMode)
        pings(lab.app)
        for family in FAMILIES:
            fetched(lab, dante, web, stackMode, family)
        for family in FAMILIES:
            mirrored(lab, family)
        for family in FAMILIES:
            named(lab, family)
        say(f"  {TUN_NAME} carried {carried(lab.app)}")
        stopped(daemon, lab.app)
    finally:
        daemon.kill()


def fetched(lab: Lab, dante: Dante, web: WebServer, stackMode: str, family: Family) -> None:
    """
    One download, with evidence that it went through the proxy.

    @raise LabError: it did not arrive whole, or did not go through the proxy.
    """
    connects, peers = len(dante.connects()), len(web.peers())
    got = curl.download(lab.app, family.url(web.port, f"/bytes/{LENGTH}"), LENGTH, timeout=120)
    if not got.whole:
        raise LabError(f"{stackMode}: the {family.name} download is not whole: {got.error}")
    seen = web.peers()[peers:]
    if seen != [family.proxyOutside] or len(dante.connects()) != connects + 1:
        raise LabError(f"the {family.name} download did not go through the proxy: {seen}")
    say(
        f"  GET  {family.url(web.port, '/'):<22} {LENGTH >> 20} MiB, SHA-256 right, "
        f"{LENGTH / 1e6 / got.seconds:,.0f} MB/s ({got.gigabits:.1f} Gbit/s)"
    )
    say(
        f"{DIM}       curl at {family.kernel} -> {TUN_NAME} -> {stackMode} stack -> "
        f"{dante.shown} at {IPV4.proxy} -> server, which saw {seen[0]}{PLAIN}"
    )


def mirrored(lab: Lab, family: Family) -> None:
    """
    Two UDP servers report which address of one app's socket they see.

    @raise LabError: they see two addresses, or another one than the proxy's.
    """
    with contextlib.ExitStack() as stack:
        servers = [udp.UDPServer(lab.world, family.world, udp.mirror) for _ in range(2)]
        for server in servers:
            stack.callback(server.stop)
        app = stack.enter_context(lab.app.makeSocket(udp.familyOf(family.world), socket.SOCK_DGRAM))
        app.settimeout(5)
        seen = []
        for server in servers:
            app.sendto(b"who am I?", (family.world, server.port))
            seen.append(app.recv(1000).decode().split())
    if seen[0] != seen[1] or seen[0][0] != family.proxyOutside:
        raise LabError(f"over {family.name} two UDP servers saw {seen}")
    say(f"  UDP  {family.world:<22} two servers see one address: {seen[0][0]} port {seen[0][1]}")


def named(lab: Lab, family: Family) -> None:
    """
    Ask the DNS relay twice.

    @raise LabError: an answer is wrong.
    """
    for _ in range(2):
        answer = ask(lab.app, family.gateway, f"any-{family.name}.any.lab", "A")
        if answer.status != "NOERROR" or not answer.data:
            raise LabError(f"the DNS relay at {family.gateway} answered {answer}")
    say(f"  DNS  {family.gateway:<22} answers by unbound, then from its cache: {answer.data[0]}")
