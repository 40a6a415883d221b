"""
Makes the checks for one configuration.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nanotun.config.askedservers import goesBare, hostsOf, probeEndpoints, serversOf
from nanotun.config.domains import PatternKind
from nanotun.config.notices import namesInClear
from nanotun.config.settings import Settings
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import firstHops, inDialOrder, upstreamsOf
from nanotun.daemon.circles import Circles
from nanotun.daemon.localresolvers import LocalResolvers
from nanotun.daemon.systemservers import SystemServers
from nanotun.doctor import local, neighbours, network, plainhttp, servers, trial, upstreams
from nanotun.doctor.finding import ICheck
from nanotun.doctor.machine import Machine
from nanotun.doctor.question import questionFor
from nanotun.engine import abi
from nanotun.engine.tls import NativeTls
from nanotun.errors import ConfigError
from nanotun.flow import Endpoint
from nanotun.gateway.dns.contexts import contextsFor
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.nameservers import NameServers
from nanotun.interfaces import DnsServer, IUpstream, ProxyURL, UpstreamContext, UpstreamSettings
from nanotun.linux.network import MachineNetwork, readNetwork
from nanotun.log.trouble import TroubleLog
from nanotun.routing.netlink import vpnMarks
from nanotun.upstream.dial.sockets import openDatagram, openStream
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.httpproxy import HttpUpstream
from nanotun.upstream.make import groupOf, makeAll

#: Seconds at most for one step of a conversation with a proxy, even if connectTimeout is
#: longer.
STEP_LIMIT = 4.0


def basicChecks(machine: Machine) -> list[ICheck]:
    """The checks that need no configuration."""
    return [
        local.ProgramCheck(abi.NativeLibrary.load),
        local.PrivilegeCheck(machine),
        local.DeviceNodeCheck(machine),
        local.DescriptorCheck(machine),
        local.ClockCheck(time.time, machine.modified(abi.LIBRARY_PATH)),
    ]


def allChecks(
    settings: Settings,
    notices: Sequence[str],
    target: Endpoint | None,
    reactor: Any,
    inThread: Callable[..., Any],
    machine: Machine | None = None,
    survey: Callable[[], MachineNetwork] = readNetwork,
    wrong: str = "",
) -> list[ICheck]:
    """
    All checks, in the order of the report.

    @param notices: the configuration's warnings.
    @param target: the destination that the proxies are to connect to; L{None} for none.
    @param inThread: calls a function in a thread and returns a Deferred.
    @param survey: reads this machine's network; called once, and only when it is needed.
    @param wrong: what is wrong with a file that the settings name, a sentence; empty for nothing.
    @raise ConfigError: a file that a proxy's URL names cannot be used.
    """
    machine = Machine() if machine is None else machine
    survey = functools.cache(survey)
    running = functools.partial(neighbours.isRunning, machine, settings)
    timeout = min(settings.connectTimeout, STEP_LIMIT)
    probed = probeEndpoints(settings)
    context = UpstreamContext(
        reactor, timeout, openStream, openDatagram, servers=probed, tls=NativeTls()
    )
    # They are not started: without checks of its own, a group learns from what it is asked for.
    trouble = TroubleLog(reactor, Logger())

    def together(entry: UpstreamSettings, single: Sequence[IUpstream]) -> IUpstream:
        return groupOf(single, entry.policy, context, settings.proxyCheckInterval, trouble)

    entries = upstreamsOf(settings)
    made = makeAll(inDialOrder(entries), context, together)
    hosts = [url.host for url in firstHops(settings)]
    # With fake-ip no server past the proxy hears of a destination's name.
    bare = any(goesBare(settings, each) for each in serversOf(settings))
    if target is not None and (settings.dnsMode != "fake-ip" or not bare):
        hosts.insert(0, target.host)

    def proxyCheck(entry: UpstreamSettings, url: ProxyURL, upstream: IUpstream) -> ICheck:
        # The process of another machine is none of ours.
        cure = (lambda: "") if entry.via else functools.partial(neighbours.cureOf, machine, url)
        return upstreams.ProxyCheck(
            upstream,
            reactor,
            target,
            probed[0] if probed else None,
            questionFor(hosts, probed[0].host) if probed else None,
            bool(url.host),
            names=settings.dnsMode == "fake-ip",
            cure=cure,
            name=_titleOf(entry),
            via=entry.via,
        )

    ways: dict[str, IUpstream] = {"direct": DirectUpstream(context)}
    ways |= {name: each.upstream for name, each in made.items()}
    proxies = [
        (entry, url, upstream)
        for name, entry in entries.items()
        for url, upstream in zip(entry.proxy, made[name].single, strict=True)
    ]
    return [
        local.ConfigurationCheck(notices, wrong),
        *basicChecks(machine),
        trial.TrialCheck(settings, inThread, machine.geteuid() == 0),
        *(proxyCheck(*each) for each in proxies),
        *(
            plainhttp.PlainHttpCheck(upstream, target.host, _titleOf(entry))
            for entry, _, upstream in proxies
            if target is not None and isinstance(upstream, HttpUpstream)
        ),
        *dnsChecks(settings, ways, reactor, hosts, inThread),
        network.AddressCheck(survey, settings, running, machine.holders, machine.geteuid() == 0),
        network.VpnCheck(survey, settings, machine.holders, vpnMarks),
        network.Ipv6Check(survey, machine),
        network.MtuCheck(survey, settings),
        network.ReversePathCheck(survey, machine),
        neighbours.DaemonCheck(machine, settings),
        neighbours.FirewallCheck(machine, settings),
        *resolverChecks(settings),
        neighbours.ManagerCheck(survey, machine, settings),
    ]


def resolverChecks(settings: Settings) -> list[ICheck]:
    """The check of programs that look names up for others, where that makes a difference."""
    if not (settings.autoDefaultRoute and settings.onlyProcesses):
        return []
    return [neighbours.ResolverCheck(LocalResolvers(settings).namesLeft)]


def _titleOf(entry: UpstreamSettings) -> str:
    """What the checks of an upstream's proxies are called."""
    return "proxy" if entry.name == PROXY else f"upstream {entry.name}"


def dnsChecks(
    settings: Settings,
    ways: Mapping[str, IUpstream],
    reactor: Any,
    hosts: Sequence[str],
    inThread: Callable[..., Any],
) -> list[ICheck]:
    """
    The checks of the DNS servers, each asked its own way.

    @param ways: the upstreams by name, with C{direct}.
    @param hosts: names and addresses; the servers are asked for the first name.
    @param inThread: see L{allChecks}.
    """
    contexts = functools.cache(lambda: contextsFor(settings))
    named = serversOf(settings)
    hasSystem = any(server.scheme == "system" for server in named)

    def makeSystem(call: Callable[..., Any]) -> SystemServers:
        circles = Circles(settings.tunName, inCell=False)
        return SystemServers(settings, circles, reactor, call, lambda: None)

    look = servers.SystemLook(makeSystem, inThread)

    def makeServers(_: object = None) -> NameServers:
        return NameServers(
            reactor,
            settings,
            ways.__getitem__,
            contexts(),
            Counters(),
            {},
            openDatagram,
            lambda sentence: None,
            look.servers,
        )

    def makeLater() -> NameServers | Deferred[NameServers]:
        # They may be asked for another server's name.
        return look.get().addCallback(makeServers) if hasSystem else makeServers()

    def check(server: DnsServer, ruled: bool, domains: Sequence[str] = ()) -> ICheck:
        if server.scheme == "system":
            return servers.SystemCheck(
                look, lambda each: check(each._replace(via=server.via), ruled)
            )
        own = () if server.literal else (server.host,)
        literal = hostsOf(server)
        question = questionFor((*domains, *hosts, *own), literal[0] if literal else "")
        return servers.ServerCheck(server, question, makeLater, reactor, ruled)

    return [
        *(
            check(each, server not in settings.dns, _domainsOf(settings, server))
            for server in named
            for each in _byAddress(server)
        ),
        *map(servers.ClearNamesCheck, namesInClear(settings)),
    ]


def _byAddress(server: DnsServer) -> Iterator[DnsServer]:
    """A server with a literal host, if it is asked by datagrams."""
    if server.scheme != "udp" or server.literal:
        yield server
    else:
        yield from (server._replace(host=host, addresses=()) for host in server.addresses)


def _domainsOf(settings: Settings, server: DnsServer) -> list[str]:
    """The names that only C{dnsRules} ask a server for; it may know no others."""
    if server in settings.dns:
        return []
    return [
        pattern.value
        for rule in settings.dnsRules
        if server in rule.servers
        for pattern in rule.domains
        if pattern.kind in (PatternKind.BELOW, PatternKind.EXACTLY)
    ]


def parseTarget(text: str) -> Endpoint:
    """
    Read C{host:port}, with brackets around an IPv6 address.

    @raise ConfigError: the text has another form.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(
            f"--target must be HOST:PORT, such as example.org:443, not {text[:64]!a}."
        )
    return Endpoint(host, int(port))
