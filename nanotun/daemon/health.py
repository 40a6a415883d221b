"""
The proxies by which a described flow would leave, for the answer to C{nanotun explain}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nanotun.config.settings import Settings
from nanotun.config.upstreams import upstreamsOf, whyNoDatagrams, withFields
from nanotun.daemon.programs import valuesOf
from nanotun.flow import Decision, Flow
from nanotun.policy.decisions import nameOf
from nanotun.upstream.url import expanded


def healthOf(
    settings: Settings,
    decision: Decision,
    flow: Flow,
    isLocal: Callable[[str], bool],
    reports: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """
    Report on the proxies of a flow's upstream.

    @param decision: with the flow's owner, if that is known.
    @param isLocal: whether a literal address is one of this machine's.
    @param reports: from L{nanotun.daemon.upstreams.Upstreams.reports}; empty without a daemon.
    @return: for each C{url}, C{via} (the upstream that it is dialled through), C{health},
        C{trouble}, C{latency}, C{udp} and C{login} (the user name for this flow, if it is one
        of the flow's own), each L{None} if it is not known or there is none.
    """
    name = nameOf(decision)
    entry = upstreamsOf(settings).get(name)
    if entry is None:
        return []
    fields = withFields(settings).get(name, frozenset())
    values = dict(valuesOf(fields, decision, flow, isLocal, {}))
    known = reports[name]["proxies"] if name in reports else [{}] * len(entry.proxy)
    noDatagrams = bool(whyNoDatagrams(settings, name))
    return [
        {
            "url": str(url),
            "via": entry.via or None,
            "health": report.get("health"),
            "trouble": report.get("trouble"),
            "latency": report.get("latency"),
            "udp": False if noDatagrams else report.get("udp"),
            "login": expanded(url, values).username if url.template else None,
        }
        for url, report in zip(entry.proxy, known, strict=True)
    ]
