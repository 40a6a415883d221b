"""
From the settings to upstreams.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from nanotun.interfaces import IUpstream, ProxyURL, UpstreamContext, UpstreamSettings, Via
from nanotun.linux.users import nameOf
from nanotun.log.trouble import TroubleLog
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.sole import SoleUpstream
from nanotun.upstream.url import expanded, fieldsOf

#: C{process} in the user names for what nanotun sends itself, and C{source} for whatever
#: this machine does.
OWN_PROCESS, LOCAL = "nanotun", "local"


class MadeUpstream(NamedTuple):
    """
    One upstream of the settings.

    @ivar single: one for each of its proxies, in their order.
    @ivar upstream: what flows are given: it chooses from L{single}.
    """

    single: list[IUpstream]
    upstream: IUpstream


def makeAll(
    entries: Iterable[UpstreamSettings],
    context: UpstreamContext,
    together: Callable[[UpstreamSettings, list[IUpstream]], IUpstream],
) -> dict[str, MadeUpstream]:
    """
    Make the upstreams of the settings, one dialled through another where they say so, with
    the log-ins for what nanotun sends itself.  Opens and starts nothing.

    @param entries: an upstream comes before those that are dialled through it.  Their C{via}
        is empty or the name of an entry.
    @param together: makes one upstream of those for an entry's proxies, each of which also
        provides L{nanotun.interfaces.IHealthCheck}.
    @return: by name, in the order of the entries.
    @raise nanotun.errors.ConfigError: a file that a URL names is no good.
    """
    made: dict[str, MadeUpstream] = {}
    vias: dict[str, Via] = {}
    for entry in entries:
        via = vias[entry.via] if entry.via else None
        urls = [expanded(url, ownValues(url)) for url in entry.proxy]
        single = upstreamsFor(urls, context._replace(via=via))
        upstream = together(entry, single)
        made[entry.name] = MadeUpstream(single, upstream)
        vias[entry.name] = viaOf(entry, upstream)
    return made


def viaOf(entry: UpstreamSettings, upstream: IUpstream) -> Via:
    """How others are dialled through an upstream."""
    return Via(entry.name, upstream, any(url.scheme.dialsDestination for url in entry.proxy))


def ownValues(url: ProxyURL) -> dict[str, str]:
    """
    The values of a URL's L{nanotun.upstream.url.FIELDS} for what nanotun sends itself: checks,
    connections in stock, queries of the relay.
    """
    uid = os.geteuid()
    values = {"uid": str(uid), "process": OWN_PROCESS, "source": LOCAL}
    # Only then, because a user's name may be asked of daemons, or of other machines.
    if "user" in fieldsOf(url):
        values["user"] = nameOf(uid)
    return values


def upstreamsFor(urls: Iterable[ProxyURL], context: UpstreamContext) -> list[IUpstream]:
    """
    Make the upstream that each URL stands for.  Opens and starts nothing.

    @return: each provides L{nanotun.interfaces.IHealthCheck} too.
    @raise nanotun.errors.ConfigError: a file that a URL names is no good.
    """
    return [url.scheme.make(url, context) for url in urls]


def groupOf(
    upstreams: Sequence[IUpstream],
    policy: str,
    context: UpstreamContext,
    interval: float,
    trouble: TroubleLog,
    logFlows: bool = False,
    asks: bool = True,
) -> IUpstream:
    """
    One upstream for several.

    @param upstreams: at least one, in the configuration's order.
    @param policy: which of them is used, and when; see
        L{nanotun.upstream.group.policies.POLICIES}.
    @param interval: seconds between two checks of one that no flow uses.
    @param trouble: told of upstreams that go down.
    @param logFlows: whether each flow gets a debug line that names its upstream.
    @param asks: whether the only upstream is a proxy, whose health can be asked for.
    @return: a service to be started that checks them and chooses; or the only upstream.
    """
    reactor, timeout = context.reactor, context.timeout
    if len(upstreams) > 1:
        return GroupUpstream(
            upstreams,
            policy,
            reactor,
            timeout,
            interval,
            trouble,
            logFlows,
            changed=context.changed,
            settle=context.settle,
        )
    if asks:
        settle = context.settle
        return SoleUpstream(upstreams[0], reactor, timeout, interval, trouble, settle=settle)
    return upstreams[0]
