"""
The upstreams of one configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.addresses import GATEWAY4
from nanotun.config.askedservers import probeEndpoints
from nanotun.config.settings import Settings
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import inDialOrder, upstreamsOf, wayOf, withFields
from nanotun.daemon.programs import valuesOf
from nanotun.engine.tls import NativeTls
from nanotun.flow import Decision, Endpoint, Flow, Verdict
from nanotun.interfaces import (
    INames,
    IUpstream,
    IUpstreams,
    ProxyURL,
    UpstreamContext,
    UpstreamSettings,
    Via,
)
from nanotun.log.trouble import TroubleLog
from nanotun.router.named import NamedUpstream
from nanotun.upstream.dial.resolver import AddressBook
from nanotun.upstream.dial.sockets import MARKED, Sockets
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.group.group import GroupUpstream, upstreamReport
from nanotun.upstream.group.member import SILENCE
from nanotun.upstream.group.perprogram import POOL_PER_PROGRAM, PROGRAMS_LIMIT, PerProgram, Values
from nanotun.upstream.make import groupOf, makeAll, viaOf
from nanotun.upstream.pool.pool import WarmPool
from nanotun.upstream.reject import GoneUpstream
from nanotun.upstream.scheme import sendsNamesWith
from nanotun.upstream.url import expanded

#: The name of the upstream that is past every proxy.
DIRECT = "direct"

#: Seconds.  A proxy that is silent for longer than L{SILENCE} is down, and a terminal waits for
#: the answer.
REFRESH_LIMIT = SILENCE + 0.5


@implementer(IUpstreams)
class Upstreams(MultiService):
    """
    The upstreams, and as a service what keeps them ready: the connections that wait and
    the checks of proxies' health.  Flows that are open need none of it, so a daemon
    whose configuration changes stops the old one at once.

    @ivar byName: the upstreams of the settings, C{proxy} first, and C{direct}.
    @ivar single: by the same names, but without C{direct}: one for each proxy, in the order
        of the settings, which the upstream chooses from.
    @ivar perProgram: by the same names: those with a log-in for each program.
    @param names: the names behind addresses.
    @param trouble: told of proxies that go down.
    @param leadsIn: whether a marked packet to a literal address comes back into the
        device.
    @param isLocal: whether a literal address is one of this machine's.
    @param known: what the fields of user names stand for, whoever a flow belongs to.
    @param changed: see L{UpstreamContext}; likewise C{settle}.
    @param sockets: makes the sockets.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        names: INames,
        trouble: TroubleLog,
        leadsIn: Callable[[str], bool] = lambda host: False,
        isLocal: Callable[[str], bool] = lambda host: True,
        known: Mapping[str, str] | None = None,
        changed: Callable[[], None] = lambda: None,
        settle: Callable[[], None] = lambda: None,
        sockets: Sockets = MARKED,
    ) -> None:
        """
        Opens nothing.

        @raise nanotun.errors.ConfigError: a file that a proxy's URL names is no good.
        """
        super().__init__()
        self._settings = settings
        self._reactor = reactor
        self._names = names
        self._trouble = trouble
        self._isLocal = isLocal
        self._known = known or {}
        self._entries = upstreamsOf(settings)
        self._fields = withFields(settings)
        self._ways: dict[str, Hashable] = {}
        services = self._services = MultiService()
        context = self._context = UpstreamContext(
            reactor,
            settings.connectTimeout,
            sockets.openStream,
            sockets.openDatagram,
            leadsIn,
            settings.upstreamPool,
            services,
            probeEndpoints(settings),
            # Programs have sockets of their own, but ask for a proxy's name together.
            addresses=AddressBook(reactor, changed).of,
            shared={},
            mark=sockets.mark,
            changed=changed,
            settle=settle,
            tls=NativeTls(),
        )
        made = makeAll(inDialOrder(self._entries), context, self._together)
        self.single = {name: each.single for name, each in made.items()}
        self.byName = {name: made[name].upstream for name in self._entries}
        self.byName[DIRECT] = self._named(DirectUpstream(context), sends=False)
        self.perProgram = {name: self._perProgram(name) for name in self._fields}
        for upstream in (*self.byName.values(), *self.perProgram.values(), services):
            if IService.providedBy(upstream):
                upstream.setServiceParent(self)

    def leaving(self, decision: Decision, flow: Flow) -> IUpstream:
        """See L{IUpstreams.leaving}."""
        if decision.verdict is Verdict.DIRECT:
            return self.byName[DIRECT]
        name = decision.upstream or PROXY
        fields = self._fields.get(name)
        if fields:
            values = valuesOf(fields, decision, flow, self._isLocal, self._known)
            return self.perProgram[name].upstreamOf(values)
        upstream = self.byName.get(name)
        # A reload may have removed it while the decision waited for a process or a person.
        return GoneUpstream(name) if upstream is None else upstream

    def wayOf(self, decision: Decision) -> Hashable:
        """Equal for decisions whose flows leave in the same way, by whatever rule or name."""
        if decision.verdict is not Verdict.PROXY:
            return decision.verdict
        name = decision.upstream or PROXY
        if name not in self._ways:
            self._ways[name] = wayOf(self._settings, name) if name in self._entries else name
        return decision.verdict, self._ways[name]

    def dials(self, endpoint: Endpoint) -> bool:
        """See L{IUpstream.dials}; of any of them."""
        return any(upstream.dials(endpoint) for upstream in self.byName.values())

    def networkMoved(self) -> None:
        """
        Trust nothing that was learned or opened in the network where the machine was before.
        """
        for service in _within(self):
            if isinstance(service, WarmPool | GroupUpstream):
                service.networkMoved()

    def toldDown(self, name: str = PROXY) -> bool:
        """Whether the log has said of every proxy of an upstream that it is down."""
        upstream = self.byName.get(name)
        return isinstance(upstream, GroupUpstream) and not any(
            member.healthy for member in upstream.members.all
        )

    def report(self) -> dict[str, Any]:
        """See L{upstreamReport}; about C{proxy}."""
        return self._reportOn(PROXY)

    def reports(self) -> dict[str, dict[str, Any]]:
        """
        Report on all upstreams.

        @return: by name, what L{upstreamReport} says, and C{via}, the name of the upstream
            that its proxies are dialled through, and C{programs}, how many have a log-in of
            their own at the moment; each L{None} if there is no such thing.
        """
        return {
            name: {
                **self._reportOn(name),
                "via": entry.via or None,
                "programs": len(self.perProgram[name]) if name in self.perProgram else None,
            }
            for name, entry in self._entries.items()
        }

    def refresh(self) -> Deferred[Any]:
        """
        Ask the proxies whether they are well, unless that is known.

        @return: fires when it is known, or after L{REFRESH_LIMIT}; never fails.
        """
        return DeferredList(
            [
                upstream.refresh().addTimeout(REFRESH_LIMIT, self._reactor).addErrback(_notInTime)
                for upstream in self.byName.values()
                if isinstance(upstream, GroupUpstream)
            ]
        )

    def _reportOn(self, name: str) -> dict[str, Any]:
        return upstreamReport(self.byName[name], self.single[name], self._reactor.seconds())

    def _named(self, upstream: IUpstream, sends: bool) -> IUpstream:
        """An upstream that is asked for addresses which may stand for names."""
        settings = self._settings
        if settings.dnsMode != "fake-ip" and not sends:
            return upstream
        return NamedUpstream(
            upstream,
            self._names,
            self._reactor,
            settings.connectTimeout,
            sends,
            guesses=settings.dnsMode != "fake-ip",
        )

    def _member(self, url: ProxyURL, upstream: IUpstream) -> IUpstream:
        fakes = self._settings.dnsMode == "fake-ip"
        return self._named(upstream, sendsNamesWith(url.scheme, fakes))

    def _together(self, entry: UpstreamSettings, single: Sequence[IUpstream]) -> IUpstream:
        settings = self._settings
        return groupOf(
            [self._member(*each) for each in zip(entry.proxy, single, strict=True)],
            entry.policy,
            self._context,
            settings.proxyCheckInterval,
            self._trouble,
            settings.logLevel == "debug",
            # direct:// and reject:// have nobody to ask.
            asks=bool(entry.proxy[0].host),
        )

    def _perProgram(self, name: str) -> PerProgram:
        entry = self._entries[name]
        group = self.byName[name]
        # Who has fields in the user name is a proxy, whose health is known.
        assert isinstance(group, GroupUpstream)

        def make(values: Values, services: MultiService) -> list[IUpstream]:
            context = self._context._replace(
                poolSize=min(self._context.poolSize, POOL_PER_PROGRAM),
                services=services,
                via=self._viaOf(entry.via, values),
            )
            known = dict(values)
            # A proxy that no program has a log-in at is common to all.
            return [
                self._member(url, url.scheme.make(expanded(url, known), context))
                if url.template or entry.via in self._fields
                else member.upstream
                for url, member in zip(entry.proxy, group.members.all, strict=True)
            ]

        def full() -> None:
            self._trouble.report(
                f"The upstream {name} has more than {PROGRAMS_LIMIT} programs at a time; the one "
                "that was silent for longest gets new connections."
            )

        return PerProgram(group, make, full)

    def _viaOf(self, name: str, values: Values) -> Via | None:
        """What a program's proxies are dialled through: its own log-in there, if it has one."""
        if not name:
            return None
        upstream, fields = self.byName[name], self._fields.get(name)
        if fields:
            own = tuple((field, text) for field, text in values if field in fields)
            upstream = self.perProgram[name].upstreamOf(own)
        return viaOf(self._entries[name], upstream)


def _within(service: IService) -> Iterator[IService]:
    """A service and all that are part of it."""
    yield service
    if isinstance(service, MultiService):
        for each in service:
            yield from _within(each)


def _notInTime(reason: Failure) -> None:
    reason.trap(TimeoutError)


def noticesOf(
    settings: Settings, upstreams: Upstreams, before: Settings | None = None
) -> tuple[str, ...]:
    """
    Sentences that the user of these settings should read.

    @param before: the settings that were in force; what they say of an upstream, too, is known.
    """
    known = {} if before is None else upstreamsOf(before)
    changed = [each for name, each in upstreamsOf(settings).items() if known.get(name) != each]
    notices: dict[str, None] = {}
    for entry in changed:
        upstream = upstreams.byName[entry.name]
        if not upstream.carriesDatagrams:
            notices[_noDatagrams(entry, upstream)] = None
        for url in entry.proxy:
            notices.update(dict.fromkeys(url.scheme.notices(url)))
    return tuple(notices)


def _noDatagrams(entry: UpstreamSettings, upstream: IUpstream) -> str:
    consequence = "apps hear so at once"
    if entry.name == PROXY:
        consequence += f", and their DNS queries need the relay at {GATEWAY4}"
    if entry.via:
        return (
            f"The upstream {entry.name} is dialled through {entry.via}, and a chain carries no "
            f"UDP: {consequence}."
        )
    what = upstream.describe() if entry.name == PROXY else f"{entry.name} ({upstream.describe()})"
    return f"The upstream {what} carries no UDP: {consequence}."
