"""
The composition root: settings in, the service with all its parts out.

Called by twistd before it forks.  Nothing is opened and nothing native is
loaded here; the service does that once it is started.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.plugin import getPlugins

from nanotun.addresses import GATEWAY4
from nanotun.assembly.controls import confirmHandler, makeReport, ownersReport, stopHandler
from nanotun.assembly.host import HostParts
from nanotun.assembly.waysout import WaysOut
from nanotun.config import Settings
from nanotun.control.server import ControlSocket, Handler
from nanotun.engine.probe import offloadWorks
from nanotun.errors import ConfigError, EngineError
from nanotun.gateway import Gateway, NameOptions, makeGateway
from nanotun.interfaces import (
    IPacketEngine,
    IPacketEngineFactory,
    IPart,
    ITunDevice,
    ITunOpener,
    IUpstream,
)
from nanotun.judge import Judge
from nanotun.logs import LoggedService
from nanotun.naming import Naming
from nanotun.options import Options
from nanotun.router import FlowRouter
from nanotun.service import NanotunService, Parts
from nanotun.signals import Signals
from nanotun.tun.device import LinuxTunOpener
from nanotun.tun.port import TunPort
from nanotun.tun.ways import MarkedWays
from nanotun.upstream.sockets import openDatagram, openStream

__all__ = ["Options", "makeService"]


def engineFactory(stackMode: str) -> IPacketEngineFactory:
    """
    Find the plugin for a C{stackMode}.

    @raise EngineError: there is none.
    """
    for factory in getPlugins(IPacketEngineFactory):
        if factory.stackMode == stackMode:
            return factory
    raise EngineError(
        f"no packet engine {stackMode} is installed; install nanotun again, with "
        "twisted/plugins/nanotun_plugin.py."
    )


def exitWith(reactor: Any, status: int) -> None:
    """
    Stop the reactor and let the process end with C{status}.

    twistd has no public way to say so, and by the time it is done with its own
    clean-up it ends with 0.  What Python calls last has the last word.

    @param reactor: is running.
    """

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)

    atexit.register(leave)
    reactor.stop()


def checkFiles(settings: Settings) -> None:
    """
    Read what the settings name, beside their own files.  Opens no connection.

    @raise ConfigError: something of it is no good.
    """
    from twisted.internet import reactor

    WaysOut(settings, reactor, Naming())


def makeService(
    options: Options,
    opener: ITunOpener | None = None,
    leave: Callable[[int], None] | None = None,
) -> IService:
    """
    Put everything together.

    @param options: parsed.
    @param opener: if not for this machine's own network namespace, which nothing is
        done to then.
    @param leave: has the process end with a status; by default the reactor stops.
    @raise SystemExit: a file that the proxy's URL names is no good, or a user that
        C{excludedProcesses} names is not known; with the error's sentence, as from
        L{Options.postOptions}.
    """
    from twisted.internet import reactor  # type: ignore[import-not-found]

    def exit(status: int) -> None:
        exitWith(reactor, status)

    settings = options.settings
    debug = settings.logLevel == "debug"
    config = os.path.abspath(options["config"]) if options["config"] else ""
    fakes = settings.dnsMode == "fake-ip"
    naming = Naming()
    marked = MarkedWays(settings.tunName, reactor.seconds)
    host: HostParts | None = None
    try:
        ways = WaysOut(settings, reactor, naming, marked.leadsIn)
        if opener is None:
            host = HostParts(options, reactor, naming, config, exit)
    except ConfigError as error:
        raise SystemExit(f"nanotun: {error}") from None
    upstream = ways.upstream
    owners = None if host is None else host.owners
    nameOptions = NameOptions(
        noted=bool(upstream.sendsNames),
        faked=fakes,
        exclude=settings.fakeIpExclude,
        # Proxies themselves are reached by their real addresses.
        real=tuple(proxy.host.lower().rstrip(".") for proxy in settings.proxy),
        stateFile=settings.dnsStateFile,
        flowHold=max(settings.connectTimeout, settings.udpTimeout),
    )

    def makeEngine() -> IPacketEngine:
        return engineFactory(settings.stackMode).createEngine(reactor, settings.udpTimeout)

    def makeServices(engine: IPacketEngine) -> Gateway:
        cacheSize = settings.dnsCacheSize if settings.dnsCache else 0
        gateway = makeGateway(
            reactor, engine, settings.dns, cacheSize, openDatagram, openStream, nameOptions
        )
        naming.names = gateway.names
        if host is not None:
            host.gateways.append(gateway)
        return gateway

    def makeRouter(engine: IPacketEngine, gateway: Any) -> FlowRouter:
        names = gateway.names if fakes or upstream.sendsNames else None
        judge = Judge(settings, owners, gateway.isLocal, marked.leadsIn, ways.dials, os.getpid())
        return FlowRouter(judge, upstream, ways.direct, engine, gateway, reactor, debug, names)

    def makePort(
        device: ITunDevice, engine: IPacketEngine, deviceLost: Callable[[int], None]
    ) -> TunPort:
        return TunPort(device, engine, reactor, deviceLost)

    handlers: dict[str, Handler] = {}
    before: tuple[IPart, ...] = (marked,)
    after: tuple[IPart, ...] = ()
    if host is not None:
        before = (*host.before(Signals(reactor, {})), marked)
        after = host.after(ControlSocket(settings.runDir, handlers, reactor))
    tunnel = NanotunService(
        settings,
        Parts(
            opener or LinuxTunOpener(offloadWorks),
            makeEngine,
            makeServices,
            makeRouter,
            makePort,
            before,
            after,
        ),
        reactor,
        leave or exit,
        notices=(*options.notices, *noticesOf(settings, upstream)),
    )
    sections: dict[str, Callable[[], Any]] = {
        "upstream": ways.report,
        "verdicts": lambda: tunnel.router.report(),
    }
    if owners is not None:
        sections["processes"] = partial(ownersReport, owners)
    routes = None if host is None else host.routes
    if routes is not None:
        sections["routes"] = routes.report
    handlers["status"] = makeReport(settings, config, tunnel, sections, time.monotonic)
    handlers["stop"] = stopHandler(reactor)
    handlers["confirm"] = confirmHandler(None if routes is None else routes.confirm)
    root = LoggedService(settings, options.parent or {}, reactor)
    tunnel.setServiceParent(root)
    # Started after the tunnel, which is what can fail.
    ways.setServiceParent(root)
    return root


def noticesOf(settings: Settings, upstream: IUpstream) -> tuple[str, ...]:
    """What a user should know of these settings before he wonders."""
    notices: tuple[str, ...] = ()
    if not upstream.carriesDatagrams:
        notices += (
            f"The way out, {upstream.describe()}, carries no UDP: apps hear so at once, and "
            f"their DNS queries need the relay at {GATEWAY4}.",
        )
    return notices + tuple(
        f"Nobody checks the certificate of the proxy {proxy}, so anyone on the way can pose as "
        "it; write ?ca=FILE in the place of ?insecure=1."
        for proxy in settings.proxy
        if proxy.insecure
    )
