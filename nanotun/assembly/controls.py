"""
What can be asked of the running daemon.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nanotun import __version__
from nanotun.config import Settings
from nanotun.control.process import resources
from nanotun.control.report import Report, Section, engineReport
from nanotun.errors import RunningError
from nanotun.interfaces import IPacketEngine, ITunDevice
from nanotun.owners import Owners


class Running(Protocol):
    """What is reported of the daemon: L{nanotun.service.NanotunService}, once it is up."""

    @property
    def device(self) -> ITunDevice:
        """The TUN."""

    @property
    def engine(self) -> IPacketEngine:
        """The engine."""

    @property
    def gateway(self) -> Any:
        """The L{nanotun.gateway.Gateway}."""


def makeReport(
    settings: Settings,
    config: str,
    running: Running,
    sections: Mapping[str, Section],
    clock: Callable[[], float],
) -> Report:
    """
    The report of a daemon that starts now.

    @param config: the configuration file's whole path, or the empty string.
    @param sections: of other parts: C{upstream}; C{verdicts}, C{processes} and
        C{routes} where there are any.
    @param clock: seconds that only grow.
    """
    started = clock()

    def daemon() -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": clock() - started,
            "config": config or None,
        }

    def device() -> dict[str, Any]:
        tun = running.device
        return {"name": tun.name, "mtu": tun.mtu, "offload": bool(tun.vnetHeader)}

    def engine() -> dict[str, Any]:
        return {"mode": settings.stackMode, **engineReport(running.engine.stats())}

    def dns() -> dict[str, Any]:
        servers = [str(server) for server in settings.dns]
        return {"mode": settings.dnsMode, "servers": servers, **running.gateway.stats()._asdict()}

    others = {name: sections.get(name, _nothing) for name in ("verdicts", "processes", "routes")}
    return Report(
        {
            "daemon": daemon,
            "device": device,
            "upstream": sections["upstream"],
            "engine": engine,
            "dns": dns,
            **others,
            "resources": resources,
        }
    )


def _nothing() -> None:
    """The section of a part that there is not."""


def ownersReport(owners: Owners) -> dict[str, int]:
    """
    The report's C{processes}.

    @return: C{misses}, flows without an owner that could be found; C{known}, how many
        processes there were at the last scan, and C{excluded} ones of them.
    """
    table = owners.table
    return {
        "misses": owners.misses,
        "known": len(table.glances),
        "excluded": len(table.excluded),
    }


def confirmHandler(confirm: Callable[[], bool] | None) -> Callable[[], dict[str, bool]]:
    """
    What answers C{nanotun confirm}.

    @param confirm: whether it was awaited; L{None} where no route is changed.
    """

    def handler() -> dict[str, bool]:
        if confirm is None or not confirm():
            raise RunningError("The daemon waits for no confirmation; there is nothing to do.")
        return {"confirmed": True}

    return handler


def stopHandler(reactor: Any) -> Callable[[], dict[str, int]]:
    """What answers C{nanotun stop}: says so, and then stops."""

    def handler() -> dict[str, int]:
        reactor.callLater(0, reactor.stop)
        return {"pid": os.getpid()}

    return handler
