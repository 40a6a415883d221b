"""
Which changes of the configuration a running daemon takes over, and which need a restart.

Pure: two L{Settings} in, the names of settings out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from nanotun.config.askedservers import serversOf, viaOf
from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import upstreamsOf

#: They name one another: if one of them has to wait for a restart, all do.
_TOGETHER = (
    "proxy",
    "proxyVia",
    "upstreams",
    "dnsRules",
    "rules",
    "default",
    "countryFile",
    "script",
)

#: They name upstreams, too, but wait with those only if they would otherwise name one that there
#: is not: what waits under C{autoDefaultRoute} need not hold up the rules.
_ASKING = ("dns", "dnsVia")

_RIGHTS = tuple(name for name, key in KEYS.items() if key.rights)

#: For L{changeTo}'s C{kept}, where new values need rights that the daemon dropped when it
#: started: the first that avoids the need is to be taken.
KEPT = (
    (),
    tuple(name for name in _RIGHTS if name not in _TOGETHER),
    tuple(name for name in _RIGHTS if name in _TOGETHER),
    _RIGHTS,
)


class Change(NamedTuple):
    """
    What a new configuration changes.

    @ivar settings: the settings in force from now on.
    @ivar live: the names of the settings that have changed, in the sample file's order.
    @ivar restart: the names of the settings that keep their value until a restart.
    """

    settings: Settings
    live: tuple[str, ...]
    restart: tuple[str, ...]


def changeTo(new: Settings, old: Settings, kept: Collection[str] = ()) -> Change:
    """
    Find out what a running daemon takes over.

    @param new: what the configuration says now.
    @param old: the settings in force.
    @param kept: the names of settings that need a restart this time.
    """
    changed = [key for key in KEYS.values() if getattr(new, key.name) != getattr(old, key.name)]
    live = tuple(
        key.name
        for key in changed
        if key.live and not (key.routed and old.autoDefaultRoute) and key.name not in kept
    )
    if any(key.name in _TOGETHER and key.name not in live for key in changed):
        live = tuple(name for name in live if name not in _TOGETHER)
    if _lacksUpstream(_merged(old, new, live)):
        live = tuple(name for name in live if name not in (*_TOGETHER, *_ASKING))
    restart = tuple(key.name for key in changed if key.name not in live)
    return Change(_merged(old, new, live), live, restart)


def _merged(old: Settings, new: Settings, names: Collection[str]) -> Settings:
    return replace(old, **{name: getattr(new, name) for name in names})


def _lacksUpstream(settings: Settings) -> bool:
    """Whether DNS queries would leave by an upstream that there is not."""
    named = {settings.dnsVia, *(viaOf(settings, each) for each in serversOf(settings))}
    return not named <= {"direct", PROXY} and not named <= {"direct", *upstreamsOf(settings)}
