"""
Says in the log that connections had to make way for others.
"""

from __future__ import annotations

from ipaddress import ip_network

from nanotun.flow import Crowd, CrowdKind
from nanotun.log.trouble import TroubleLog

_YIELDS = "a new one takes the place of the one that has waited longest."


def sentenceOf(crowd: Crowd) -> str:
    """What there is too much of: a sentence for the log, the same for each crowd of a kind."""
    limit = crowd.limit
    many = f"{limit} unanswered connections under way, as many as"
    if crowd.kind is CrowdKind.HALF_OPEN:
        return (
            f"{limit or 'Many'} connections were accepted and are not completed by those who asked "
            f"for them, which may be a SYN flood; {_YIELDS}"
        )
    if not limit:
        return (
            "This machine and others have as many unanswered connections under way as there may "
            f"be together; {_YIELDS}"
        )
    if crowd.kind is CrowdKind.PROGRAM:
        who = f"The programs of uid {crowd.uid} have"
        if crowd.uid < 0:
            who = "Programs that nanotun cannot tell apart have"
        return f"{who} {many} they may; {_YIELDS}"
    if crowd.kind is CrowdKind.SOURCE:
        # A machine can use all of its network's addresses, and would be new with each.
        network = ":" in crowd.host
        host = ip_network(f"{crowd.host}/64", strict=False) if network else crowd.host
        return f"{host} has {many} one machine may; {_YIELDS}"
    if crowd.kind is CrowdKind.MACHINE:
        return f"This machine has {many} it may; {_YIELDS}"
    return f"Other machines have {many} they may together; {_YIELDS}"


class CrowdLog:
    """
    Logs each crowd once, and then counts its connections.
    """

    def __init__(self, trouble: TroubleLog) -> None:
        self._trouble = trouble

    def report(self, crowd: Crowd) -> None:
        """See L{nanotun.interfaces.IPacketEngine.reportCrowds}."""
        self._trouble.report(sentenceOf(crowd), crowd.times)
