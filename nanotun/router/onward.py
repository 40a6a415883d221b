"""
Opens the way for connections that the gateway does not answer itself.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from nanotun.errors import UpstreamProhibited
from nanotun.flow import Decision, Flow, Verdict
from nanotun.interfaces import Connection, IJudge, IUpstream


def openOnward(
    judge: IJudge, upstream: IUpstream, direct: IUpstream, flow: Flow
) -> Deferred[Connection]:
    """
    Connect to where a flow was meant for, as the rules say.

    @param upstream: takes the flow if the verdict is PROXY.
    @param direct: takes it if the verdict is DIRECT.
    @return: fails as L{IUpstream.connect} does, and with L{UpstreamProhibited} where the rules
        refuse it.
    """

    def decided(decision: Decision) -> Deferred[Connection]:
        if decision.verdict is Verdict.PROXY:
            return upstream.connect(flow.destination)
        if decision.verdict is Verdict.DIRECT:
            return direct.connect(flow.destination)
        raise UpstreamProhibited(f"the rules refuse it, since {decision.reason}.")

    deciding = judge.judge(flow)
    if not isinstance(deciding, Deferred):
        deciding = succeed(deciding)
    return deciding.addCallback(decided)
