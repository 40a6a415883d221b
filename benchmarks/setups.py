"""
The setups to measure: in each one the app reaches the same server, but differently.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.topology import IPV4, Lab


class Setup(NamedTuple):
    """
    One combination of tunnel and proxy.

    @ivar name: its heading in the table.
    @ivar stackMode: the engine, or empty for no tunnel.
    @ivar dante: whether traffic passes through dante.
    @ivar rules: how many rules there are, none of which holds.
    @ivar script: the text of a script, or empty.
    """

    name: str
    stackMode: str
    dante: bool
    rules: int = 0
    script: str = ""

    @property
    def speaksSocks(self) -> bool:
        """Whether the client has to speak SOCKS5 itself."""
        return self.dante and not self.stackMode


SETUPS = (
    Setup("kernel", "", False),
    Setup("socks", "", True),
    Setup("gvisor+dante", "gvisor", True),
    Setup("simple+dante", "simple", True),
    Setup("gvisor+direct", "gvisor", False),
    Setup("simple+direct", "simple", False),
)

SCRIPT = """\
def flow(flow):
    return "direct" if flow.isBelow("example.net") else None
"""

#: Measured only if they are asked for.
RULED = (
    Setup("gvisor+10rules", "gvisor", True, 10),
    Setup("gvisor+1000rules", "gvisor", True, 1000),
    Setup("gvisor+script", "gvisor", True, script=SCRIPT),
)


def rulesOf(many: int) -> list[dict[str, object]]:
    """Rules about domains and networks by turns, to which no flow of the benchmarks leads."""
    return [
        {"to": "direct", "networks": f"11.{number >> 8}.{number & 255}.0/24"}
        if number % 2
        else {"to": "direct", "domains": [f"{name}{number}.example.net" for name in "abc"]}
        for number in range(many)
    ]


class Opened:
    """
    A setup that is ready to be measured.

    @ivar setup: the one that is ready.
    @ivar address: the address that the client connects to.
    @ivar socks: the load program's further arguments.
    @ivar daemon: the daemon, if the setup has a tunnel.
    @ivar figures: figures that one measurement found for another one.
    """

    def __init__(self, setup: Setup, lab: Lab, dante: Dante, directory: Path) -> None:
        """@raise tests.e2e.lab.process.LabError: the daemon did not come up."""
        self.setup = setup
        self.lab = lab
        # The second address has a kernel route; the first only leads through the tunnel.
        self.address = IPV4.world if setup.stackMode or setup.dante else IPV4.direct
        self.socks = [IPV4.proxy, str(dante.port)] if setup.speaksSocks else []
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
                proxy=dante.url() if setup.dante else "direct://",
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
