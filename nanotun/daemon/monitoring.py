"""
What watches the daemon from outside, if the settings ask for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from nanotun.config.settings import Settings
from nanotun.control.report import Report
from nanotun.control.server import Handler
from nanotun.daemon.observed import ProgramSearch, ProgramsOnDemand
from nanotun.daemon.reload import Live
from nanotun.gateway import Gateway
from nanotun.interfaces import IPacketEngine, IPart
from nanotun.log.service import LoggedService
from nanotun.router.router import FlowRouter


def metricsOf(
    settings: Settings, reactor: Any, router: FlowRouter, report: Report
) -> tuple[IPart, ...]:
    """
    Make what serves the metrics, and have the router count what only they have.

    @param report: the status report.
    @return: nothing without the setting C{metrics}, and then nothing of it is imported.
    @raise SystemExit: C{prometheus_client} is not there; with one sentence.
    """
    if settings.metrics is None:
        return ()
    try:
        from nanotun.metrics.families import Counted
        from nanotun.metrics.server import MetricsServer
    except ImportError as error:
        raise SystemExit(
            f"nanotun: metrics needs the Python package prometheus-client ({error}); install it, "
            "or unset metrics."
        ) from None
    from nanotun.router.dialtimes import DialTimes

    times = router.dialling.times = DialTimes()
    counted = Counted(report, router.tally.decisions, lambda: times.opened, lambda: times.failed)
    return (MetricsServer(settings.metrics, settings.runDir, counted, reactor, time.time),)


def webOf(
    live: Live,
    config: str,
    handlers: Mapping[str, Handler],
    engine: IPacketEngine,
    gateway: Gateway,
    router: FlowRouter,
    root: LoggedService,
    programs: Iterable[ProgramSearch | ProgramsOnDemand],
    reactor: Any,
) -> tuple[IPart, ...]:
    """
    Make what serves the web page; see L{nanotun.daemon.webserved.makeWeb}.

    @param programs: find the programs of flows that somebody looks at.
    @return: nothing without the setting C{web}, and then nothing of it is imported.
    """
    if not live.current.settings.web:
        return ()
    from nanotun.daemon.webserved import makeWeb

    def looked() -> None:
        for each in programs:
            each.looked()

    return (makeWeb(live, config, handlers, engine, gateway, router, root, looked, reactor),)
