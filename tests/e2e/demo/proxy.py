"""
The demonstration with a proxy of the user.

The daemon dials from this machine's own network, but its device is moved into a namespace of
its own, where curl runs: this machine's routes do not change.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.demo.show import DIM, ENGINES, PLAIN, carried, pings, say, started, stopped
from tests.e2e.lab import curl
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.namespace import Host, Namespace, removeLeftovers
from tests.e2e.lab.process import LabError
from tests.e2e.lab.topology import IPV4, IPV6, TUN_NAME

HOST_TUN = "nanodemo0"
"""The device's name while it is on the host, where nano0 might be a real tunnel."""

CONNECT_TIMEOUT = "15s"
"""The daemon's connectTimeout: long, as the proxy may be far away."""


def throughProxy(proxy: str, url: str) -> None:
    """
    The demonstration with a proxy of the user.

    @raise LabError: something did not work.
    """
    resolved(url)  # The most likely mistake first.
    removeLeftovers()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotun-run-")))
        say("nanotun dials from this machine's network; its device is moved into a namespace")
        say("of its own, where curl runs.  No route of this machine is touched.")
        for stackMode in ENGINES:
            say()
            app = Namespace(f"nt{os.getpid()}x{ENGINES.index(stackMode)}-app")
            stack.callback(app.remove)
            daemon = Daemon(
                Host(),
                directory / stackMode,
                stackMode=stackMode,
                proxy=proxy,
                tunName=HOST_TUN,
                connectTimeout=CONNECT_TIMEOUT,
            )
            stack.callback(daemon.kill)
            moved(app)
            started(daemon, stackMode)
            pings(app)
            fetched(app, daemon, url, shown(proxy), stackMode)
            say(f"  {TUN_NAME} carried {carried(app)}")
            stopped(daemon, app)


def fetched(app: Namespace, daemon: Daemon, url: str, proxy: str, stackMode: str) -> None:
    """
    Fetch C{url} in C{app} and print how that went.

    @raise LabError: curl failed; the text has its error message and the daemon's log.
    """
    host, port, address = resolved(url)
    # Redirects are not followed: they may lead to a name that was not looked up.
    options = ["-o", "/dev/null"]
    if host != address:
        options += ["--resolve", f"{host}:{port}:{address}"]
    wanted = "%{http_code} %{size_download} %{time_total}"
    try:
        answer = curl.get(app, url, *options, "-w", wanted, timeout=60)
    except LabError as error:
        words = str(error).rsplit("curl: ", 1)[-1].splitlines()[0]
        log = [line for line in daemon.log().splitlines() if " info " not in line]
        raise LabError("\n".join([f"{url} through {proxy}: {words}", *log])) from None
    code, size, seconds = answer.split()
    speed = int(size) / 1e6 / max(float(seconds), 1e-6)
    say(
        f"  GET  {url}: HTTP {code}, {int(size):,} bytes in {float(seconds):.2f} s"
        f" ({speed:,.1f} MB/s)"
    )
    say(
        f"{DIM}       curl at {IPV4.kernel} -> {TUN_NAME} -> {stackMode} stack -> "
        f"{proxy} -> {address}:{port}{PLAIN}"
    )


def moved(app: Namespace) -> None:
    """Move the device from the host to C{app}, and configure it there as it was."""
    Host().ip(f"link set {HOST_TUN} netns {app.name} name {TUN_NAME}")
    app.ip(
        f"link set {TUN_NAME} up",
        f"addr add {IPV4.kernel}/30 dev {TUN_NAME}",
        f"addr add {IPV6.kernel}/126 dev {TUN_NAME} nodad",
        f"route add default via {IPV4.gateway} dev {TUN_NAME}",
        f"route add default via {IPV6.gateway} dev {TUN_NAME}",
    )


def resolved(url: str) -> tuple[str, int, str]:
    """
    Look up the URL's host here, because the namespace has no resolver.

    @return: host, port and address; IPv4 if there is a choice.
    @raise LabError: it is no http URL, or the name is unknown.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LabError(f"{url} is not an http or https URL")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise LabError(f"{parts.hostname}: {error.strerror}; give another --url") from None
    first = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return parts.hostname, port, str(first[4][0])


def shown(url: str) -> str:
    """The proxy's URL without its password."""
    return re.sub(r"(?<=//)[^/@]*@", "", url)
