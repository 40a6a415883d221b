"""
How the ways out do, for the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanotun.interfaces import IUpstream
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.proxy import ProxyUpstream


def upstreamReport(upstream: IUpstream, single: Sequence[IUpstream]) -> dict[str, Any]:
    """
    @param upstream: where flows go.
    @param single: the ways out that it is made of, in their order, without anything
        around them.
    @return: C{policy}, or L{None} for one way out; and C{proxies}, each with C{url} (no
        password), C{state} (C{"closed"}: flows go by it, C{"open"}: it is down, C{"half
        open"}: it is tried again; L{None} where nobody keeps watch), C{latency} (seconds
        of a handshake, on average), C{udp} (whether it carries UDP) and C{pool} (C{idle}
        and C{dialling} connections), each L{None} where it is not known.
    """
    proxies: list[dict[str, Any]] = [
        {"url": each.describe(), "state": None, "latency": None, "udp": None, "pool": _pool(each)}
        for each in single
    ]
    if not isinstance(upstream, GroupUpstream):
        return {"policy": None, "proxies": proxies}
    for proxy, member in zip(proxies, upstream.members.all, strict=True):
        proxy["state"] = member.breaker.state.value
        proxy["latency"] = member.latency
        proxy["udp"] = member.datagrams
    return {"policy": upstream.policyName, "proxies": proxies}


def _pool(upstream: IUpstream) -> dict[str, int] | None:
    pool = upstream.pool if isinstance(upstream, ProxyUpstream) else None
    return None if pool is None else {"idle": len(pool.idle), "dialling": len(pool.dialling)}
