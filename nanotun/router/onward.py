"""
Opens the way for connections that the gateway does not answer itself.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from nanotun.errors import UpstreamProhibited
from nanotun.flow import Decision, Flow
from nanotun.interfaces import Connection, IJudge, IUpstreams
from nanotun.policy.decisions import leadsOut


def openOnward(judge: IJudge, upstreams: IUpstreams, flow: Flow) -> Deferred[Connection]:
    """
    Connect to where a flow was meant for, as the rules say.

    @return: fails as L{IUpstream.connect} does, and with L{UpstreamProhibited} where the rules
        refuse it.
    """

    def decided(decision: Decision) -> Deferred[Connection]:
        if leadsOut(decision):
            return upstreams.leaving(decision, flow).connect(flow.destination)
        raise UpstreamProhibited(f"the rules refuse it, since {decision.reason}.")

    deciding = judge.judge(flow)
    if not isinstance(deciding, Deferred):
        deciding = succeed(deciding)
    return deciding.addCallback(decided)
