"""
The composition root: settings in, the service with all its parts out.

Called by twistd before it forks.  Nothing is opened and nothing native is
loaded here; the service does that once it is started.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import IService
from twisted.plugin import getPlugins

from nanotun.config.options import Options
from nanotun.config.settings import Settings
from nanotun.control.server import ControlSocket, Handler
from nanotun.daemon.host import HostParts
from nanotun.daemon.reload import Live, Makers
from nanotun.daemon.requests import addHandlers, reloadHandler, silently
from nanotun.daemon.service import NanotunService, Parts
from nanotun.daemon.signals import Signals
from nanotun.daemon.upstreams import Upstreams, noticesOf
from nanotun.engine.probe import offloadWorks
from nanotun.errors import ConfigError, EngineError
from nanotun.gateway import makeGateway
from nanotun.interfaces import (
    IOwners,
    IPacketEngine,
    IPacketEngineFactory,
    IPart,
    ITunDevice,
    ITunOpener,
)
from nanotun.linux.markedroute import MarkedRoute
from nanotun.log.service import LoggedService
from nanotun.owners import makeOwners, ownerOptions
from nanotun.policy.judge import Judge
from nanotun.router.router import FlowRouter
from nanotun.tun.device import LinuxTunOpener
from nanotun.tun.port import TunPort
from nanotun.upstream.dial.sockets import openDatagram, openStream
from nanotun.upstream.make import upstreamFor
from nanotun.upstream.proxy import sendsNames

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

    @raise ConfigError: something of it is no good, or a user is not known.
    """
    from twisted.internet import reactor

    for url in settings.proxy:
        upstreamFor(url, reactor, settings.connectTimeout)
    makeOwners(ownerOptions(settings), reactor)


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
    options["config"] = config or None
    marked = MarkedRoute(settings.tunName, reactor.seconds)
    try:
        engine = engineFactory(settings.stackMode).createEngine(reactor, settings.udpTimeout)
    except EngineError as error:
        raise SystemExit(f"nanotun: {error}") from None
    gateway = makeGateway(
        reactor, engine, settings, openDatagram, openStream, sendsNames(settings.proxy)
    )

    def makeWays(settings: Settings) -> Upstreams:
        return Upstreams(settings, reactor, gateway.names, marked.leadsIn)

    def makeJudge(settings: Settings, ways: Upstreams, owners: IOwners | None) -> Judge:
        return Judge(settings, owners, gateway.isLocal, marked.leadsIn, ways.dials, os.getpid)

    host: HostParts | None = None
    try:
        ways = makeWays(settings)
        if opener is None:
            host = HostParts(options, reactor, gateway, config, exit)
    except ConfigError as error:
        raise SystemExit(f"nanotun: {error}") from None
    owners = None if host is None else host.owners.owners
    judge = makeJudge(settings, ways, owners)
    router = FlowRouter(
        judge, ways.upstream, ways.direct, engine, gateway, reactor, debug, gateway.names
    )
    root = LoggedService(settings, options.parent or {}, reactor)
    handlers: dict[str, Handler] = {}
    before: tuple[IPart, ...] = (marked,)
    after: tuple[IPart, ...] = ()
    live: Live | None = None
    if host is not None:
        makers = Makers(makeWays, makeJudge, host.ownersFor, host.lacksRights)
        live = Live(options, makers, ways, host.owners, host.routes, router, gateway, root, root)
        handlers["reload"] = reloadHandler(live, host.notifier)
        signals = Signals(reactor, {signal.SIGHUP: silently(handlers["reload"])})
        before = (*host.before(signals), marked)
        after = host.after(ControlSocket(settings.runDir, handlers, reactor))

    def makePort(
        device: ITunDevice, engine: IPacketEngine, deviceLost: Callable[[int], None]
    ) -> TunPort:
        return TunPort(device, engine, reactor, deviceLost)

    parts = Parts(
        opener or LinuxTunOpener(offloadWorks), engine, gateway, router, makePort, before, after
    )
    notices = (*options.notices, *noticesOf(settings, ways.upstream))
    tunnel = NanotunService(settings, parts, reactor, leave or exit, notices)
    if host is not None and live is not None:
        addHandlers(handlers, host, live, tunnel, parts, gateway, config, reactor)
    tunnel.setServiceParent(root)
    # Started after the tunnel, which is what can fail.
    ways.setServiceParent(root)
    return root
