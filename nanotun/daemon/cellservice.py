"""
Makes the tunnel of C{nanotun run}, whose device is in a network of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from twisted.application.service import IService, MultiService

from nanotun.config.notices import namesInClear
from nanotun.config.options import Options
from nanotun.config.settings import Settings
from nanotun.config.upstreams import inDialOrder, upstreamsOf
from nanotun.daemon.ending import Ending
from nanotun.daemon.loss import DeviceLoss
from nanotun.daemon.networkwatch import NetworkWatch, waysOut
from nanotun.daemon.patience import CHECK_LIMIT, Patience
from nanotun.daemon.service import NanotunService, Parts
from nanotun.daemon.tap import makeTunnel
from nanotun.daemon.upstreams import noticesOf
from nanotun.engine.tls import NativeTls
from nanotun.interfaces import (
    IPart,
    ITunOpener,
    IUpstream,
    UpstreamContext,
    UpstreamSettings,
)
from nanotun.linux.sources import Sources
from nanotun.router.router import firstLeaving, firstPending
from nanotun.routing.monitor import NetworkMonitor
from nanotun.timer import steadyReactor
from nanotun.upstream.dial.sockets import MARKED, Sockets
from nanotun.upstream.make import MadeUpstream, groupOf, makeAll

if TYPE_CHECKING:
    from nanotun.scripting.apart import RemoteScript
    from nanotun.scripting.script import Script


def makeCellService(
    options: Options,
    opener: ITunOpener,
    leave: Callable[[int], None],
    known: Mapping[str, str] | None = None,
    script: Script | RemoteScript | None = None,
    directAllowed: bool = False,
    sockets: Sockets = MARKED,
    more: tuple[IPart, ...] = (),
) -> IService:
    """
    Make the tunnel of C{nanotun run}, whose device is in a network of its own.  To this
    machine it does nothing: no lock, no routes, no control socket, no reload.

    @param options: parsed.
    @param leave: has the process end with a status.
    @param known: what the fields of user names stand for in whatever the command sends.
    @param script: decides about the command's flows; L{None} for none.
    @param directAllowed: whether that may send them past the proxy.
    @param sockets: makes the sockets to the outside.
    @param more: started last.
    @raise SystemExit: see L{makeTunnel}.
    """
    reactor = steadyReactor()
    settings = options.settings
    tunnel = makeTunnel(settings, opener, reactor, True, known, script, directAllowed, sockets)
    around, engine, gateway, current, router, device, _, standing, system = tunnel
    root = MultiService()
    context = UpstreamContext(
        reactor,
        min(settings.connectTimeout, CHECK_LIMIT),
        sockets.openStream,
        sockets.openDatagram,
        around.marked.leadsIn,
        tls=NativeTls(),
    )

    def together(entry: UpstreamSettings, single: Sequence[IUpstream]) -> IUpstream:
        # Its trouble is a line of the log already.
        return groupOf(single, entry.policy, context, settings.proxyCheckInterval, router.trouble)

    asked = makeAll(inDialOrder(upstreamsOf(settings)), context, together)
    patience = Patience(
        reactor,
        lambda: router.carried,
        partial(firstPending, router),
        lambda: proxiesOf(settings, asked, firstLeaving(router)),
        lambda: current.upstreams.toldDown(firstLeaving(router)),
    )

    watch = NetworkWatch(
        reactor,
        partial(NetworkMonitor, reactor),
        None,
        partial(waysOut, settings, sockets, inCell=True),
        router.associations,
        (gateway.networkMoved, system.networkMoved, current.upstreams.networkMoved),
        standing,
        makeSources=lambda: Sources(sockets.openDatagram),
    )
    before = (around.marked, system) if script is None else (script, around.marked, system)
    parts = Parts(device, engine, gateway, router, before, after=(watch, patience, *more))
    notices = (
        *options.notices,
        *current.lists.lists.notices,
        *current.names.notices,
        *noticesOf(settings, current.upstreams),
        *namesInClear(settings),
    )
    ending = Ending()
    loss = DeviceLoss(settings.tunName, ending, leave, routed=False)
    service = NanotunService(settings, parts, reactor, loss, ending, notices, needsRoot=False)
    service.setServiceParent(root)
    current.upstreams.setServiceParent(root)
    return root


def proxiesOf(settings: Settings, made: Mapping[str, MadeUpstream], name: str) -> list[IUpstream]:
    """
    Those of an upstream that can be asked whether they answer.

    @param name: may be C{direct}, or empty.
    """
    entry = upstreamsOf(settings).get(name)
    if entry is None:
        return []
    return [proxy for proxy, url in zip(made[name].single, entry.proxy, strict=True) if url.host]
