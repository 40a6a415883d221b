"""
What rules take from files, once the files have been read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from nanotun.policy.namelist import NameList
from nanotun.policy.networktable import NetworkTable


class Lists(NamedTuple):
    """
    The lists that the rules of one configuration name.

    @ivar names: the lists of names, by their files' paths.
    @ivar networks: the lists of networks, by their files' paths.
    @ivar countryOf: the country that a literal address is in, as two capital letters; empty if
        that is not known.  Never raises.
    @ivar notices: sentences about lines that are of no use.
    """

    names: Mapping[str, NameList] = {}
    networks: Mapping[str, NetworkTable] = {}
    countryOf: Callable[[str], str] = lambda host: ""
    notices: tuple[str, ...] = ()


#: What a configuration has whose rules name no file.
NO_LISTS = Lists()
