"""
Finds the row of the table of special-purpose networks that an address falls under.
"""

from __future__ import annotations

from functools import lru_cache

from nanotun.addresses import SPECIALS, Special
from nanotun.policy.networkmap import NetworkMap

_MAP = NetworkMap((special.network, special) for special in SPECIALS)


@lru_cache(maxsize=4096)
def specialOf(host: str) -> Special | None:
    """
    The row that an address falls under, the narrowest one; L{None} for all the rest,
    which is on the Internet.

    @param host: a literal address.
    """
    return _MAP.find(host)
