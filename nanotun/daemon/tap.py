"""
The composition root: options in, a service with all its parts out.

Read it from top to bottom: each part is made once, of those above it.  All of this
happens before twistd forks, so nothing is opened and nothing native is loaded; the
service does that when it is started.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.application.service import IService
from twisted.logger import Logger

from nanotun.config.notices import namesInClear
from nanotun.config.options import Options
from nanotun.config.settings import Settings
from nanotun.control.lock import InstanceLock
from nanotun.control.server import ControlSocket, Handler
from nanotun.daemon.current import (
    Current,
    LaterRoutes,
    Maker,
    Vicinity,
    logOptions,
    makeJudge,
    ownersFor,
)
from nanotun.daemon.device import TunnelDevice
from nanotun.daemon.devicewatch import DeviceWatch
from nanotun.daemon.dnsquery import dnsHandler
from nanotun.daemon.ending import makeEnding
from nanotun.daemon.flowrequests import closeHandler, flowsHandler
from nanotun.daemon.history import makeHistory, recordingReport
from nanotun.daemon.lately import LatelyEnded
from nanotun.daemon.lists import readLists
from nanotun.daemon.localresolvers import LocalResolvers
from nanotun.daemon.loss import DeviceLoss
from nanotun.daemon.monitoring import metricsOf, webOf
from nanotun.daemon.networkwatch import NetworkWatch
from nanotun.daemon.notify import Notifier
from nanotun.daemon.observed import programSearch
from nanotun.daemon.older import OlderConnections
from nanotun.daemon.privileges import SEARCHING, makePrivileges
from nanotun.daemon.reload import Live
from nanotun.daemon.requests import (
    confirmHandler,
    explaining,
    makeReport,
    plain,
    reloadHandler,
    silently,
    statusHandler,
    stopHandler,
)
from nanotun.daemon.scripts import scriptFor
from nanotun.daemon.service import NanotunService, Parts
from nanotun.daemon.signals import Signals
from nanotun.daemon.standing import Withdrawals
from nanotun.daemon.systemservers import SystemServers, makeSystemServers
from nanotun.daemon.upstreams import Upstreams, noticesOf
from nanotun.daemon.vpnwatch import makeVpnWatch
from nanotun.engine.plugin import ENGINES
from nanotun.engine.probe import offloadWorks
from nanotun.errors import ConfigError, EngineError
from nanotun.gateway import Gateway, makeGateway
from nanotun.gateway.dns.contexts import contextsFor
from nanotun.interfaces import (
    IPacketEngine,
    IPacketEngineFactory,
    ITunOpener,
)
from nanotun.linux.conntrack import originalOf
from nanotun.linux.forwarding import Forwarding
from nanotun.linux.markedroute import NOWHERE, MarkedRoute
from nanotun.log.service import LoggedService, newDirectory
from nanotun.log.trouble import TroubleLog
from nanotun.owners.askers import Askers
from nanotun.owners.recorder import Recorder
from nanotun.owners.sockets import KernelSockets
from nanotun.owners.syscalls import LinuxBpf
from nanotun.policy.dnsnames import namePolicy
from nanotun.router.crowds import CrowdLog
from nanotun.router.router import FlowRouter
from nanotun.routing.monitor import NetworkMonitor
from nanotun.routing.unrouted import makeAlone, makeLeftovers
from nanotun.timer import steadyReactor
from nanotun.tun.device import LinuxTunOpener
from nanotun.tun.links import NetlinkLinks
from nanotun.upstream.dial.sockets import MARKED, Sockets

if TYPE_CHECKING:
    from nanotun.scripting.apart import RemoteScript
    from nanotun.scripting.script import Script

__all__ = ["Options", "makeService"]


class Tunnel(NamedTuple):
    """The parts that carry traffic, wherever the device is."""

    around: Vicinity
    engine: IPacketEngine
    gateway: Gateway
    current: Current
    router: FlowRouter
    device: TunnelDevice
    recorder: Recorder
    standing: Withdrawals
    system: SystemServers


def makeTunnel(
    settings: Settings,
    opener: ITunOpener,
    reactor: Any,
    inCell: bool,
    known: Mapping[str, str] | None = None,
    script: Script | RemoteScript | None = None,
    directAllowed: bool = True,
    sockets: Sockets = MARKED,
) -> Tunnel:
    """
    Make the parts that carry traffic.

    @param opener: opens the device, in the network namespace where it belongs.
    @param inCell: whether that is the cell of C{nanotun run}, whose processes are not
        looked for and which has no way to this machine's links.
    @param known: see L{Upstreams}.
    @param script: the user's; L{None} for none.
    @param directAllowed: whether that may send flows past the proxy.
    @param sockets: makes the sockets to the outside.
    @raise SystemExit: there is no such engine, a file that a proxy's URL, a DNS server or a rule
        names is no good, or C{excludedProcesses} or a rule names an unknown user; with one
        sentence.
    """
    # A device of that name here is another tunnel's.
    marked = MarkedRoute(NOWHERE if inCell else settings.tunName, reactor.seconds)
    recorder = Recorder(LinuxBpf())
    askers = Askers(KernelSockets(settings.tunName))
    system = makeSystemServers(settings, reactor, inCell, lambda: gateway.systemChanged())
    try:
        engine = engineFactory(settings.stackMode).createEngine(reactor, settings.udpTimeout)
        gateway = makeGateway(
            reactor,
            engine,
            settings,
            sockets.openDatagram,
            inCell,
            userOf=(lambda flow: None) if inCell else askers.find,
            # No firewall redirects what is in a cell.
            originalOf=(lambda flow: None) if inCell else originalOf,
            system=system,
        )
        # The flow and the check of a proxy that is down are one line.
        trouble = TroubleLog(reactor, Logger(namespace="nanotun.upstream"))
        engine.reportCrowds(CrowdLog(trouble).report)
        # What comes from a cell is this machine's own.
        isLocal = (lambda host: True) if inCell else gateway.isLocal
        upstreams = Upstreams(
            settings,
            reactor,
            gateway.names,
            trouble,
            marked.leadsIn,
            isLocal,
            known,
            changed=lambda: router.withdraw(),
            settle=engine.tellStood,
            sockets=sockets,
        )
        owners = None if inCell else ownersFor(settings, reactor, recorder, script=script)
        # Before twistd forks, so that both processes share the memory.
        lists = readLists(settings, os.geteuid())
        contexts = contextsFor(settings)
    except (ConfigError, EngineError) as error:
        raise SystemExit(f"nanotun: {error}") from None
    # No packet of another VPN's comes from a cell.
    vpn = None if inCell else makeVpnWatch(settings, marked, reactor)
    around = Vicinity(marked, Forwarding(reactor.seconds), vpn, LaterRoutes())
    judge = makeJudge(
        settings,
        upstreams,
        owners,
        lists.lists,
        gateway,
        around,
        inCell,
        script,
        directAllowed,
    )
    router = FlowRouter(
        judge,
        upstreams,
        engine,
        gateway,
        reactor,
        settings.logLevel == "debug",
        gateway.names,
        trouble,
        script,
        settings.reloadFlows == "judge",
        settings.logFlows,
    )
    device = TunnelDevice(settings, opener)
    names = namePolicy(settings, lists.lists, judge.rules.table, script)
    gateway.configure(settings, upstreams.byName, script, contexts, names)
    current = Current(settings, upstreams, owners, judge, lists, names=names, contexts=contexts)
    standing = Withdrawals(router.withdraw, (around.forget, gateway.forgetAddresses))
    return Tunnel(around, engine, gateway, current, router, device, recorder, standing, system)


def makeService(options: Options) -> IService:
    """
    Make the daemon that sends this machine's traffic through the proxy.

    @param options: parsed.
    @raise SystemExit: see L{makeTunnel}; as from L{Options.postOptions}.
    """
    reactor = steadyReactor()
    settings = options.settings
    twistd: Mapping[str, Any] = options.parent or {}
    config = os.path.abspath(options["config"]) if options["config"] else ""
    try:
        script = scriptFor(settings, reactor)
    except ConfigError as error:
        raise SystemExit(f"nanotun: {error}") from None
    opener = LinuxTunOpener(offloadWorks)
    tunnel = makeTunnel(settings, opener, reactor, inCell=False, script=script)
    around, engine, gateway, current, router, device, recorder, standing, system = tunnel
    current = current._replace(script=script)
    changed, settle = router.withdraw, engine.tellStood
    maker = Maker(reactor, gateway, router.trouble, around, recorder, changed, settle)
    root = LoggedService(logOptions(settings), twistd, reactor)
    end = partial(exitWith, reactor)
    ending = makeEnding(os.environ)

    leftovers = makeLeftovers(settings)
    routes = None
    if settings.autoDefaultRoute:
        from nanotun.routing.make import makeRoutes

        ask, networkChanged = gateway.names.resolve, gateway.clearCache
        routes = makeRoutes(
            settings,
            reactor,
            ask,
            networkChanged,
            options.confirm,
            end,
            ending.how,
            system.hosts,
        )
        around.passing.ask = routes.letsPast
    privileges = makePrivileges(
        settings, twistd, config, current.owners is not None, leftovers is not None
    )
    notifier = Notifier(os.environ, f"{settings.tunName} is up", reactor)

    live = Live(
        options,
        config,
        current,
        maker,
        gateway,
        router,
        routes,
        privileges,
        root,
        reactor,
    )
    system.follow(lambda: live.current.settings)
    reload = reloadHandler(live, notifier)
    history = makeHistory(settings, router, reactor)
    report = makeReport(
        live,
        config,
        device,
        engine,
        gateway,
        router,
        routes,
        recorder,
        time.monotonic,
        partial(recordingReport, history),
    )
    handlers: dict[str, Handler] = {
        "status": plain(statusHandler(live, report)),
        "reload": plain(reload),
        "confirm": plain(confirmHandler(None if routes is None else routes.confirm)),
        "stop": plain(stopHandler(reactor)),
        "restart": plain(stopHandler(reactor, ending.restart)),
        "explain": explaining(live, config),
        "dns": dnsHandler(live, gateway, time.monotonic),
        "flows": flowsHandler(router.listing, time.time),
        "ended": LatelyEnded(router.ends, reactor),
        "close": closeHandler(router.listing),
        "web": plain(lambda: {"at": str(settings.web) or None}),
    }
    control = ControlSocket(settings.runDir, handlers, reactor)
    signals = Signals(reactor, {signal.SIGHUP: silently(reload)})
    lock = InstanceLock(settings.runDir, config)

    # Privileges are dropped first, so that nothing starts with more than it needs, but for
    # the record of sockets, which needs more to begin than to go on.  Nothing on the machine
    # is changed before the lock is held.
    alone = makeAlone(settings)
    recording = () if privileges.lacking(SEARCHING) else (recorder,)
    before = (signals, *recording, privileges, lock, alone, live, around.marked, system)
    undo = routes or leftovers
    # Twice, because excluded processes go on connecting while the routes are set.
    older = OlderConnections(live, lambda: 0 if routes is None else routes.report()["changes"])
    routing = (older,) if undo is None else (older, undo, older)

    loss = DeviceLoss(settings.tunName, ending, end, settings.autoDefaultRoute)
    followers = (gateway.networkMoved, system.networkMoved, live.networkMoved)
    watch = NetworkWatch(
        reactor,
        partial(NetworkMonitor, reactor),
        DeviceWatch(device, NetlinkLinks(), loss.report, reactor),
        live.waysOut,
        router.associations,
        followers if routes is None else (*followers, routes.networkMoved),
        standing,
        around.vpn,
    )
    programs = programSearch(settings, reactor, recorder, router.programs)
    metrics = metricsOf(settings, reactor, router, report)
    web = webOf(live, config, handlers, engine, gateway, router, root, programs, reactor)
    # The watch is stopped after the routes: without them nothing needs it.
    after = (watch, *routing, *programs, *history, control, *metrics, *web, notifier)
    parts = Parts(device, engine, gateway, router, before, after)
    notices = (
        *origins(options),
        *options.notices,
        *current.lists.lists.notices,
        *current.names.notices,
        *noticesOf(settings, current.upstreams),
        *namesInClear(settings),
        *LocalResolvers(settings).namesLeft(),
    )
    NanotunService(settings, parts, reactor, loss, ending, notices).setServiceParent(root)
    # Started after the tunnel, whose start may fail.
    current.upstreams.setServiceParent(root)
    return root


def origins(options: Options) -> Iterator[str]:
    """
    Sentences about what the user has not asked for by name: the default configuration file,
    and a new directory of logs.
    """
    if options.source:
        yield options.source
    directory = newDirectory(logOptions(options.settings))
    if directory:
        whose = " that belongs to root" if os.geteuid() == 0 else ""
        yield (
            f"Log files are written to {directory}, a new directory{whose}; logDir or --log-dir "
            "names another, and '' none."
        )


def engineFactory(stackMode: str) -> IPacketEngineFactory:
    """
    Find the plugin for a C{stackMode}: nanotun's own, or one that is installed.

    @raise EngineError: there is none.
    """
    for factory in ENGINES:
        if factory.stackMode == stackMode:
            return factory
    # Only now: to look for plugins is to import what all plugins on the machine are about,
    # unittest among it.
    from twisted.plugin import getPlugins

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

    twistd has no public way to choose the exit status: it cleans up and ends with 0.
    So the status is set in the very last thing that Python calls.

    @param reactor: is running.
    """

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)

    atexit.register(leave)
    reactor.stop()
