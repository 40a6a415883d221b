"""
What is wrong with rules that are good one by one.

Pure: settings in; an error, or sentences, out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nanotun.config.upstreams import noUpstream, upstreamNames
from nanotun.errors import EntryError

if TYPE_CHECKING:
    from nanotun.config.keys import Settings


def checkRules(settings: Settings) -> None:
    """
    Check that there is all that rules name.

    @raise EntryError: an upstream is missing, or the file of countries.
    """
    names = upstreamNames(settings)
    for number, rule in enumerate(settings.rules):
        if rule.to not in names:
            raise EntryError(noUpstream(names, rule.to), number, "to", key="rules")
        for conditions, path in ((rule.wants, ()), (rule.never, ("not",))):
            if conditions.countries and not settings.countryFile:
                raise EntryError(
                    "needs countryFile, the path of a MaxMind DB such as "
                    "/var/lib/GeoIP/GeoLite2-Country.mmdb; set it, or remove countries",
                    *(number, *path, "countries"),
                    key="rules",
                )
    if settings.default not in names:
        raise EntryError(noUpstream(names, settings.default), key="default")
