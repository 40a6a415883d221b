"""
The setups to measure: in each one the app reaches the same server, but differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.topology import IPV4, Lab

DANTE, FAST, HTTPS = "dante", "fast", "https"
"""
The proxies: Debian's; C{fastsocks}, which is meant to be no bottleneck; and C{tlsproxy}, which has
as much to do for TLS as nanotun.
"""


class Setup(NamedTuple):
    """
    One combination of tunnel and proxy.

    @ivar name: its heading in the table.
    @ivar stackMode: the engine, or empty for no tunnel.
    @ivar proxy: L{DANTE}, L{FAST} or L{HTTPS}; empty for none.
    @ivar rules: how many rules there are, none of which holds.
    @ivar script: the text of a script, or empty.
    """

    name: str
    stackMode: str
    proxy: str
    rules: int = 0
    script: str = ""

    @property
    def speaksSocks(self) -> bool:
        """Whether the client has to speak SOCKS5 itself."""
        return bool(self.proxy) and not self.stackMode

    @property
    def limit(self) -> str:
        """The name of the setup without a tunnel that this one is compared with."""
        return {DANTE: "socks", FAST: "socks+fast", HTTPS: "socks+fast"}.get(self.proxy, "kernel")


SETUPS = (
    Setup("kernel", "", ""),
    Setup("socks", "", DANTE),
    Setup("gvisor+dante", "gvisor", DANTE),
    Setup("simple+dante", "simple", DANTE),
    Setup("gvisor+direct", "gvisor", ""),
    Setup("simple+direct", "simple", ""),
    Setup("socks+fast", "", FAST),
    Setup("gvisor+fast", "gvisor", FAST),
    Setup("simple+fast", "simple", FAST),
)

SCRIPT = """\
def flow(flow):
    return "direct" if flow.isBelow("example.net") else None
"""

#: Measured only if they are asked for.
ASKED = (
    Setup("gvisor+https", "gvisor", HTTPS),
    Setup("simple+https", "simple", HTTPS),
    Setup("gvisor+10rules", "gvisor", DANTE, 10),
    Setup("gvisor+1000rules", "gvisor", DANTE, 1000),
    Setup("gvisor+script", "gvisor", DANTE, script=SCRIPT),
)


def rulesOf(many: int) -> list[dict[str, object]]:
    """Rules about domains and networks by turns, to which no flow of the benchmarks leads."""
    return [
        {"to": "direct", "networks": f"11.{number >> 8}.{number & 255}.0/24"}
        if number % 2
        else {"to": "direct", "domains": [f"{name}{number}.example.net" for name in "abc"]}
        for number in range(many)
    ]


def _url(proxy: str, port: int) -> str:
    if proxy == HTTPS:
        return f"https://{IPV4.proxy}:{port}?insecure=1"
    return f"socks5://{IPV4.proxy}:{port}" if proxy else "direct://"


class Opened:
    """
    A setup that is ready to be measured.

    @ivar setup: the one that is ready.
    @ivar address: the address that the client connects to.
    @ivar socks: the load program's further arguments.
    @ivar daemon: the daemon, if the setup has a tunnel.
    @ivar figures: figures that one measurement found for another one.
    """

    def __init__(self, setup: Setup, lab: Lab, proxies: Mapping[str, int], directory: Path) -> None:
        """
        @param proxies: the port of each proxy.
        @raise tests.e2e.lab.process.LabError: the daemon did not come up.
        """
        self.setup = setup
        self.lab = lab
        # The second address has a kernel route; the first only leads through the tunnel.
        self.address = IPV4.world if setup.stackMode or setup.proxy else IPV4.direct
        port = proxies.get(setup.proxy, 0)
        self.socks = [IPV4.proxy, str(port)] if setup.speaksSocks else []
        self.figures: dict[str, float] = {}
        self.daemon: Daemon | None = None
        if setup.stackMode:
            script = directory / "script.py"
            if setup.script:
                directory.mkdir()
                script.write_text(setup.script)
            self.daemon = Daemon(
                lab.app,
                directory,
                stackMode=setup.stackMode,
                proxy=_url(setup.proxy, port),
                dns=[IPV4.world],
                connectTimeout="10s",
                logLevel="warn",
                rules=rulesOf(setup.rules) or None,
                script=str(script) if setup.script else None,
            )
            lab.routeThroughTunnel()

    def close(self) -> None:
        """Stop the daemon."""
        if self.daemon is not None:
            self.daemon.stop()
