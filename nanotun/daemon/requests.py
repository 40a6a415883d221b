"""
The requests that the running daemon answers on its control socket.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred

from nanotun import __version__
from nanotun.config.settings import Settings
from nanotun.control.report import Report, engineReport, resources
from nanotun.daemon.device import TunnelDevice
from nanotun.daemon.notify import Notifier
from nanotun.daemon.reload import Live
from nanotun.errors import NanotunError, RunningError
from nanotun.gateway import Gateway
from nanotun.interfaces import IPacketEngine
from nanotun.owners.recorder import Recorder
from nanotun.router.router import FlowRouter

if TYPE_CHECKING:
    from nanotun.owners.owners import Owners
    from nanotun.routing.routes import Routes


def makeReport(
    live: Live,
    config: str,
    device: TunnelDevice,
    engine: IPacketEngine,
    gateway: Gateway,
    router: FlowRouter,
    routes: Routes | None,
    recorder: Recorder,
    clock: Callable[[], float],
    history: Callable[[], dict[str, Any] | None] = lambda: None,
) -> Report:
    """
    The report of a daemon that starts now.

    @param config: the configuration file's absolute path, or the empty string.
    @param routes: L{None} where no route is changed.
    @param recorder: knows who makes each socket, if the kernel tells.
    @param clock: seconds that only grow.
    @param history: how the recording of flows goes; returns L{None} where none are recorded.
    """
    started = clock()

    def daemonSection() -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": clock() - started,
            "config": config or None,
            "runDir": live.current.settings.runDir,
        }

    def engineSection() -> dict[str, Any]:
        mode = live.current.settings.stackMode
        return {"mode": mode, **engineReport(engine.stats())}

    def dnsSection() -> dict[str, Any]:
        settings = live.current.settings
        servers = [str(server) for server in settings.dns]
        return {
            "mode": settings.dnsMode,
            "via": settings.dnsVia,
            "servers": servers,
            "asked": gateway.serverReports(),
            **gateway.stats()._asdict(),
        }

    def verdictsSection() -> dict[str, Any]:
        report = router.report()
        return {**report, "userRules": userRules(live.current.settings, report["rules"])}

    def processesSection() -> dict[str, int] | None:
        owners = live.current.owners
        return None if owners is None else ownersReport(owners, recorder.works)

    def scriptSection() -> dict[str, Any] | None:
        script = live.current.script
        return None if script is None else script.report()

    return Report(
        {
            "daemon": daemonSection,
            "device": device.report,
            "upstream": lambda: live.current.upstreams.report(),
            "upstreams": lambda: live.current.upstreams.reports(),
            "engine": engineSection,
            "dns": dnsSection,
            "verdicts": verdictsSection,
            "script": scriptSection,
            "processes": processesSection,
            "history": history,
            "routes": lambda: None if routes is None else routes.report(),
            "resources": resources,
        }
    )


def userRules(settings: Settings, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """
    Report on the user's rules.

    @param counts: flows by the names of rules.
    @return: for each C{rule} (its name), C{to}, C{where} and C{flows}.
    """
    return [
        {
            "rule": f"#{number}",
            "to": rule.to,
            "where": rule.where,
            "flows": counts.get(f"#{number}", 0),
        }
        for number, rule in enumerate(settings.rules, start=1)
    ]


def ownersReport(owners: Owners, recorded: bool) -> dict[str, int]:
    """
    The report's C{processes}.

    @param recorded: whether the kernel tells who makes a socket.
    @return: C{lookups}, the number of flows whose owner was asked for; C{misses}, of those
        whose owner could not be found; C{waiting}, of those whose owner is still being found;
        C{known}, the number of processes at the
        last scan, C{excluded}, how many of them are excluded, and C{recorded}.
    """
    table = owners.table
    return {
        "lookups": owners.lookups,
        "misses": owners.misses,
        "waiting": owners.waiting,
        "known": len(table.stats),
        "excluded": sum(1 for each in table.excluded.values() if each.text),
        "recorded": recorded,
    }


def confirmHandler(confirm: Callable[[], bool] | None) -> Callable[[], dict[str, bool]]:
    """
    The handler of C{nanotun confirm}.

    @param confirm: confirms the routes and returns whether that was awaited; L{None}
        where no route is changed.
    """

    def handler() -> dict[str, bool]:
        if confirm is None or not confirm():
            raise RunningError("The daemon waits for no confirmation; there is nothing to do.")
        return {"confirmed": True}

    return handler


def stopHandler(reactor: Any, before: Callable[[], object] = int) -> Callable[[], dict[str, int]]:
    """
    The handler of C{nanotun stop}, which answers before it stops the daemon.

    @param before: called first; says how the daemon ends.
    """

    def handler() -> dict[str, int]:
        before()
        reactor.callLater(0, reactor.stop)
        return {"pid": os.getpid()}

    return handler


def statusHandler(live: Live, report: Report) -> Callable[[], Deferred[dict[str, Any]]]:
    """The handler of C{nanotun status}, which first asks the proxies whether they are well."""

    def handler() -> Deferred[dict[str, Any]]:
        return live.current.upstreams.refresh().addCallback(lambda _: report())

    return handler


def reloadHandler(live: Live, notifier: Notifier) -> Callable[[], Deferred[dict[str, Any]]]:
    """
    The handler of C{nanotun reload}, which tells systemd as well.  The proxies that are down
    are among the answer's C{warnings}.
    """

    def handler() -> Deferred[dict[str, Any]]:
        notifier.reloading()
        try:
            answer = live.reload()
        finally:
            notifier.reloaded()
        return live.current.upstreams.refresh().addCallback(lambda _: addTroubles(answer))

    def addTroubles(answer: dict[str, Any]) -> dict[str, Any]:
        reports = live.current.upstreams.reports().values()
        troubles = (proxy["trouble"] for report in reports for proxy in report["proxies"])
        # What is wrong with a proxy is wrong with all that are dialled through it.
        warnings = dict.fromkeys((*answer["warnings"], *filter(None, troubles)))
        return {**answer, "warnings": list(warnings)}

    return handler


def plain(handler: Callable[[], Any]) -> Callable[[Mapping[str, Any]], Any]:
    """The handler of a request without arguments."""
    return lambda arguments: handler()


def silently(handler: Callable[[], object]) -> Callable[[], None]:
    """A handler without its answer, for signals: its errors are logged already."""

    def act() -> None:
        maybeDeferred(handler).addErrback(lambda reason: reason.trap(NanotunError))

    return act


def explaining(live: Live, config: str) -> Callable[[Mapping[str, Any]], Any]:
    """
    See L{nanotun.daemon.explain.explainHandler}, which is imported when it is asked first.
    """

    def handler(arguments: Mapping[str, Any]) -> Any:
        from nanotun.daemon.explain import explainHandler

        return explainHandler(live, config)(arguments)

    return handler
