"""
The good way of a handshake, which the engine can go by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nanotun.flow import Endpoint
from nanotun.interfaces import Step


class GoodWay(NamedTuple):
    """
    What a handshake sends and receives where nothing is amiss.

    @ivar steps: on a new connection.
    @ivar greeted: on one that waited for its destination; what was sent before is not in it.
    @ivar request: the flow's own bytes, by its destination.  Raises
        L{nanotun.errors.UpstreamError} for one that cannot be asked for.
    """

    steps: tuple[Step, ...]
    greeted: tuple[Step, ...]
    request: Callable[[Endpoint], bytes]
