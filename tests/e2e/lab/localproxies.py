"""
Six proxies on the machine whose traffic they carry: four programs, and two ways to a
container.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from tests.e2e.lab.host import HOST4, HostLab
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PROJECT_ROOT, LabError
from tests.e2e.lab.proxies import Dante, Microsocks
from tests.e2e.lab.servers import Server
from tests.e2e.lab.sshd import SshD, Sshd
from tools import golang

BRIDGE4, CONTAINER4 = "172.17.0.1", "172.17.0.2"

#: Starts a proxy on the host of a laboratory; returns its URL.  The stack gets the clean-up.
Start: TypeAlias = Callable[[HostLab, Path, contextlib.ExitStack], str]


def microsocks(lab: HostLab, directory: Path, stack: contextlib.ExitStack) -> str:
    """One process, with a thread for each connection."""
    proxy = Microsocks(lab.host, directory)
    stack.callback(proxy.stop)
    return f"socks5://127.0.0.1:{proxy.port}"


def dante(lab: HostLab, directory: Path, stack: contextlib.ExitStack) -> str:
    """Several processes, which hand connections over to each other."""
    proxy = Dante(lab.host, directory, internal=("127.0.0.1",), external=(HOST4.app,), log=False)
    stack.callback(proxy.stop)
    return f"socks5://127.0.0.1:{proxy.port}"


def ssh(lab: HostLab, directory: Path, stack: contextlib.ExitStack) -> str:
    """C{ssh -D} with a server elsewhere: one connection for all."""
    server = Sshd(lab.proxy, directory, addresses=("0.0.0.0",))
    stack.callback(server.stop)
    proxy = SshD(lab.host, directory, server, host=HOST4.proxy)
    stack.callback(proxy.stop)
    return f"socks5://127.0.0.1:{proxy.port}"


def go(lab: HostLab, directory: Path, stack: contextlib.ExitStack) -> str:
    """One process with a few threads, as those of many proxies."""
    program = directory / "socks"
    found = golang.findGo()
    if found is None:
        raise LabError("there is no Go toolchain; 'make build' brings one")
    source = PROJECT_ROOT / "benchmarks" / "socks" / "main.go"
    subprocess.run([found, "build", "-o", str(program), str(source)], check=True)
    proxy = Server(lab.host, [str(program), "127.0.0.1:1083"], 1083, directory / "socks.log")
    stack.callback(proxy.stop)
    return f"socks5://127.0.0.1:{proxy.port}"


def container(lab: HostLab, directory: Path, stack: contextlib.ExitStack) -> str:
    """A container behind a bridge, whose packets the host masquerades; by its own address."""
    space = Namespace(f"{lab.host.name.rpartition('-')[0]}-container")
    stack.callback(space.remove)
    lab.host.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
    lab.host.ip(
        "link add docker0 type bridge",
        f"addr add {BRIDGE4}/16 dev docker0",
        "link set docker0 up",
        f"link add vethc type veth peer name eth0 netns {space.name}",
        "link set vethc master docker0 up",
    )
    space.ip(
        f"addr add {CONTAINER4}/16 dev eth0",
        "link set eth0 up",
        f"route add default via {BRIDGE4}",
    )
    lab.host.nft(
        "table ip docker { chain out { type nat hook postrouting priority srcnat; "
        'ip saddr 172.17.0.0/16 oifname != "docker0" masquerade; } }'
    )
    proxy = Microsocks(space, directory, port=1080)
    stack.callback(proxy.stop)
    return f"socks5://{CONTAINER4}:{proxy.port}"


def published(lab: HostLab, directory: Path, stack: contextlib.ExitStack) -> str:
    """The same container by a port of the host, where a helper listens for it."""
    container(lab, directory, stack)
    listen = "TCP-LISTEN:1090,fork,reuseaddr,bind=127.0.0.1,backlog=4096"
    helper = Server(
        lab.host, ["socat", listen, f"TCP:{CONTAINER4}:1080"], 1090, directory / "helper.log"
    )
    stack.callback(helper.stop)
    return f"socks5://127.0.0.1:{helper.port}"


KINDS: Mapping[str, Start] = {
    each.__name__: each for each in (microsocks, dante, ssh, go, container, published)
}
