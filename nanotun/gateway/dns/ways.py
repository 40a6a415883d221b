"""
The upstreams that DNS servers are asked through, across reloads.

Queries go on as they were when another configuration is read, but the upstreams of the one before
have been stopped by then.  So what is still asked of its servers leaves by the upstreams that have
the same names now, unless that would take it past the proxies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from nanotun.config.settings import Settings
from nanotun.config.upstreams import mayBeDirect, upstreamsOf
from nanotun.errors import UpstreamError
from nanotun.interfaces import IUpstream


class PresentWays:
    """See the module.  There are none until L{configure}."""

    def __init__(self) -> None:
        self._byName: Mapping[str, IUpstream] = {}
        self._bare: frozenset[str] = frozenset()

    def configure(self, settings: Settings, byName: Mapping[str, IUpstream]) -> None:
        """
        Use other upstreams from now on.

        @param byName: those of the settings by name, and C{direct}.
        """
        bare = (name for name, each in upstreamsOf(settings).items() if mayBeDirect(each))
        self._byName, self._bare = byName, frozenset(("direct", *bare))

    def forServers(self) -> Callable[[str], IUpstream]:
        """
        What gives the servers of the present configuration, by name, the upstreams that there
        are when they are asked.  It raises L{UpstreamError} if there is none of that name any
        more, or if that leads past the proxies only since then.
        """
        return partial(self._of, self._bare)

    def _of(self, bare: frozenset[str], name: str) -> IUpstream:
        upstream = self._byName.get(name)
        since = "since the configuration was read again."
        if upstream is None:
            raise UpstreamError(f"The upstream {name} is gone {since}")
        if name in self._bare and name not in bare:
            raise UpstreamError(f"The upstream {name} leads past the proxies {since}")
        return upstream
