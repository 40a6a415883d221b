"""
What the fields of an upstream's user name stand for, flow by flow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from nanotun.flow import Decision, Flow
from nanotun.linux.users import nameOf
from nanotun.upstream.group.perprogram import Values
from nanotun.upstream.make import LOCAL


def valuesOf(
    fields: Collection[str],
    decision: Decision,
    flow: Flow,
    isLocal: Callable[[str], bool],
    known: Mapping[str, str],
) -> Values:
    """
    What the fields stand for in a flow.

    @param isLocal: whether a literal address is one of this machine's.
    @param known: what is known of every flow.
    @return: all fields; what is not known is empty.
    """
    source, owner = flow.source.host, decision.owner
    found = {"source": LOCAL if isLocal(source) else source, **known}
    if owner is not None:
        found.update(user=nameOf(owner.uid), uid=str(owner.uid), process=owner.name)
    found.update(decision.values)
    return tuple((field, found.get(field, "")) for field in sorted(fields))
