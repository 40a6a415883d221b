"""
The ways that are measured: each one leads from the app to the same server.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.topology import IPV4, Lab


class Way(NamedTuple):
    """
    One way.

    @ivar name: as the table has it.
    @ivar stackMode: the engine, or empty for no tunnel.
    @ivar dante: whether dante is on the way.
    """

    name: str
    stackMode: str
    dante: bool

    @property
    def speaksSocks(self) -> bool:
        """Whether the client has to speak SOCKS5 itself."""
        return self.dante and not self.stackMode


WAYS = (
    Way("kernel", "", False),
    Way("socks", "", True),
    Way("gvisor+dante", "gvisor", True),
    Way("simple+dante", "simple", True),
    Way("gvisor+direct", "gvisor", False),
    Way("simple+direct", "simple", False),
)


class Opened:
    """
    A way that is open.

    @ivar address: what the client connects to.
    @ivar socks: the load program's further arguments.
    @ivar daemon: the daemon on the way, if there is one.
    @ivar figures: what one measurement finds besides its own figure, for another.
    """

    def __init__(self, way: Way, lab: Lab, dante: Dante, directory: Path) -> None:
        """@raise tests.e2e.lab.process.LabError: the daemon did not come up."""
        self.way = way
        self.lab = lab
        # The second address has a kernel route; the first only leads through the tunnel.
        self.address = IPV4.world if way.stackMode or way.dante else IPV4.direct
        self.socks = [IPV4.proxy, str(dante.port)] if way.speaksSocks else []
        self.figures: dict[str, float] = {}
        self.daemon: Daemon | None = None
        if way.stackMode:
            self.daemon = Daemon(
                lab.app,
                directory,
                stackMode=way.stackMode,
                proxy=dante.url() if way.dante else "direct://",
                dns=[IPV4.world],
                connectTimeout="10s",
                logLevel="warn",
            )
            lab.routeThroughTunnel()

    def close(self) -> None:
        """Stop the daemon."""
        if self.daemon is not None:
            self.daemon.stop()
