"""
Those who want to know how flows end: the log, the record of flows, the metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Interface

if TYPE_CHECKING:
    from nanotun.flow import FlowEnd, Note


class IEndObserver(Interface):
    """
    Hears of the end of each flow that was carried, TCP and UDP, as long as it is registered with
    C{FlowRouter.ends}.
    """

    def flowEnded(end: FlowEnd, note: Note | None) -> None:
        """
        A flow has ended.  Called for each, so it must take microseconds only.

        @param note: what was decided about it; with its process, if that is known or programs
            are looked up for those who record.  L{None} if that is forgotten.
        """
