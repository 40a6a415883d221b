"""
Six proxies on the machine whose traffic they carry: four programs, and two ways to a
container.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tests.e2e.lab.daemon import START_SECONDS, launch
from tests.e2e.lab.host import HOST4, HOST6, HostLab
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PROJECT_ROOT, LabError, run, waitUntil
from tests.e2e.lab.proxies import Dante, Microsocks
from tests.e2e.lab.servers import Server
from tests.e2e.lab.sshd import SshD, Sshd

UNRECORDED = ("setpriv", "--bounding-set", "-bpf,-sys_admin")
"""Runs the daemon without the rights that the kernel's record of sockets takes."""

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
    proxy = Dante(
        lab.host, directory, internal=("127.0.0.1",), external=(HOST4.app, HOST6.app), log=False
    )
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
    found = run([sys.executable, str(PROJECT_ROOT / "tools" / "golang.py"), "go"]).stdout.strip()
    source = PROJECT_ROOT / "benchmarks" / "socks" / "main.go"
    run([found, "build", "-o", str(program), str(source)], timeout=120)
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
        "add table ip docker\n"
        "add chain ip docker out { type nat hook postrouting priority srcnat; }\n"
        'add rule ip docker out ip saddr 172.17.0.0/16 oifname != "docker0" masquerade\n'
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


class RoutedHost:
    """A daemon that routes all of a host's traffic through a proxy on the same host."""

    def __init__(
        self,
        lab: HostLab,
        directory: Path,
        proxy: str,
        prefix: Sequence[str] = (),
        **settings: object,
    ) -> None:
        """
        @param proxy: its URL.
        @param prefix: a command that runs the daemon.
        @raise LabError: it did not come up.
        """
        self._host = lab.host
        self._runDir = str(directory / "run")
        wanted: dict[str, object] = {
            "proxy": proxy,
            "autoDefaultRoute": True,
            "lan": "direct",
            "connectTimeout": "10s",
            "runDir": self._runDir,
            **settings,
        }
        self._child = launch(lab.host, directory / "daemon", wanted, prefix=prefix)
        try:
            waitUntil(
                lambda: self._child.status() is not None or " is up: engine" in self.output(),
                START_SECONDS,
                "the routes are set",
            )
            if self._child.status() is not None:
                raise LabError(f"the daemon ended: {self.output()}")
        except LabError:
            self.stop()
            raise

    def output(self) -> str:
        """Its output so far."""
        return self._child.output()

    def report(self) -> Mapping[str, Any]:
        """The report of C{nanotun status}."""
        program = "import sys; from nanotun.console import main; sys.exit(main())"
        argv = ["env", f"PYTHONPATH={PROJECT_ROOT}", sys.executable, "-c", program]
        argv += ["status", "--json", "--run-dir", self._runDir]
        report: Mapping[str, Any] = json.loads(self._host.run(argv).stdout)
        return report

    def stop(self) -> None:
        """End it; may be called twice."""
        self._child.stop()
