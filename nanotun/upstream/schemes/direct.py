"""C{direct://}: no proxy; see L{nanotun.upstream.direct}."""

from __future__ import annotations

from nanotun.interfaces import IUpstream, ProxyURL, UpstreamContext
from nanotun.upstream.scheme import Scheme


def _make(url: ProxyURL, context: UpstreamContext) -> IUpstream:
    from nanotun.upstream.direct import DirectUpstream

    return DirectUpstream(context)


DIRECT = Scheme("direct", _make, carriesDatagrams=True, dialsDestination=True)
