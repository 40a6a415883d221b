"""
A line of the log for each flow that has ended, for C{logFlows}.
"""

from __future__ import annotations

import errno

from twisted.logger import Logger
from zope.interface import implementer

from nanotun.flow import FlowEnd, Note, Protocol
from nanotun.interfaces import IEndObserver, INames
from nanotun.router.named import shown

#: Of the lines, so that they can be told from all others.
NAMESPACE = "nanotun.router.flows"
linesLog = Logger(namespace=NAMESPACE)

#: What is said of an error that ended a flow; other errors by their names.
REASONS = {
    0: "closed",
    errno.ECONNRESET: "reset",
    errno.ETIMEDOUT: "timed out",
    errno.ECONNABORTED: "ended by nanotun",
}


def reasonOf(error: int) -> str:
    """How a flow has ended, in a word or two."""
    return REASONS.get(error) or errno.errorcode.get(error, str(error))


@implementer(IEndObserver)
class FlowLines:
    """
    Writes the lines.

    @param names: the names behind addresses.
    """

    def __init__(self, names: INames) -> None:
        self._names = names

    def flowEnded(self, end: FlowEnd, note: Note | None) -> None:
        """See L{IEndObserver.flowEnded}."""
        flow, error, up, down, _, seconds, _ = end
        # Datagrams have no end; there are none any more.
        idle = flow.protocol is Protocol.UDP and not error
        line = "{protocol} flow {flow}"
        owner = None if note is None else note.owner
        if owner is not None:
            line += " of {process} (pid {pid})" if owner.pid else " of {process}"
        line += " from {source} to {destination}"
        if note is not None:
            line += " by {upstream} (rule {rule})" if note.upstream else " (rule {rule})"
        linesLog.info(
            line + " ended: {up} bytes up, {down} down, {seconds:.3f} s, {how}",
            protocol=flow.protocol.name,
            flow=flow.id,
            process="" if owner is None else owner.name or owner.path or f"uid {owner.uid}",
            pid=0 if owner is None else owner.pid,
            source=flow.source,
            destination=shown(self._names, flow.destination, "" if note is None else note.name),
            upstream=_upstreamOf(note),
            rule="" if note is None else note.rule,
            up=up,
            down=down,
            seconds=seconds,
            how="idle" if idle else reasonOf(error),
        )


def _upstreamOf(note: Note | None) -> str:
    """An upstream by its name and its URL, if that says more."""
    if note is None or not note.upstream:
        return ""
    return note.upstream if note.by == f"{note.upstream}://" else f"{note.upstream}, {note.by}"
