"""
What can be asked of the running daemon.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from nanotun import __version__
from nanotun.config.settings import Settings
from nanotun.control.report import Report, Section, engineReport, resources
from nanotun.control.server import Handler
from nanotun.daemon.host import HostParts
from nanotun.daemon.notify import Notifier
from nanotun.daemon.reload import Live
from nanotun.daemon.service import NanotunService, Parts
from nanotun.errors import NanotunError, RunningError
from nanotun.gateway import Gateway
from nanotun.interfaces import IPacketEngine
from nanotun.owners import Owners


def makeReport(
    settings: Callable[[], Settings],
    config: str,
    tunnel: NanotunService,
    packets: IPacketEngine,
    gateway: Gateway,
    sections: Mapping[str, Section],
    clock: Callable[[], float],
) -> Report:
    """
    The report of a daemon that starts now.

    @param settings: those in force.
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
        tun = tunnel.device
        return {"name": tun.name, "mtu": tun.mtu, "offload": bool(tun.vnetHeader)}

    def engine() -> dict[str, Any]:
        return {"mode": settings().stackMode, **engineReport(packets.stats())}

    def dns() -> dict[str, Any]:
        servers = [str(server) for server in settings().dns]
        return {"mode": settings().dnsMode, "servers": servers, **gateway.stats()._asdict()}

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
        "known": len(table.stats),
        "excluded": len(table.excluded),
    }


def addHandlers(
    handlers: dict[str, Handler],
    host: HostParts,
    live: Live,
    tunnel: NanotunService,
    parts: Parts,
    gateway: Gateway,
    config: str,
    reactor: Any,
) -> None:
    """
    Add what answers everything that can be asked, but a reload.

    @param config: the configuration file's whole path, or the empty string.
    """
    routes = host.routes

    def processes() -> dict[str, int] | None:
        owners = host.owners.owners
        return None if owners is None else ownersReport(owners)

    handlers["status"] = makeReport(
        lambda: live.settings,
        config,
        tunnel,
        parts.engine,
        gateway,
        {
            "upstream": lambda: live.ways.report(),
            "verdicts": lambda: parts.router.report(),
            "processes": processes,
            "routes": lambda: None if routes is None else routes.report(),
        },
        time.monotonic,
    )
    handlers["stop"] = stopHandler(reactor)
    handlers["confirm"] = confirmHandler(None if routes is None else routes.confirm)


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


def reloadHandler(live: Live, notifier: Notifier) -> Callable[[], dict[str, Any]]:
    """What answers C{nanotun reload}; systemd hears of it as well."""

    def handler() -> dict[str, Any]:
        notifier.reloading()
        try:
            return live.reload()
        finally:
            notifier.reloaded()

    return handler


def silently(handler: Callable[[], object]) -> Callable[[], None]:
    """The same where nobody waits for the answer: the log has it."""

    def act() -> None:
        with contextlib.suppress(NanotunError):
            handler()

    return act
