"""C{reject://}: every flow is refused; see L{nanotun.upstream.reject}."""

from __future__ import annotations

from nanotun.interfaces import IUpstream, ProxyURL, UpstreamContext
from nanotun.upstream.scheme import Scheme


def _make(url: ProxyURL, context: UpstreamContext) -> IUpstream:
    from nanotun.upstream.reject import RejectUpstream

    return RejectUpstream()


REJECT = Scheme("reject", _make)
