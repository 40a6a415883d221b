"""
The check of C{rules}: a list of mappings in, one L{FlowRule} for each out.
"""

from __future__ import annotations

from typing import NamedTuple

from nanotun.config.domains import Pattern
from nanotun.config.networks import Network
from nanotun.config.selectors import Selector
from nanotun.config.times import TimeSpan
from nanotun.flow import Protocol


class ListFile(NamedTuple):
    """
    A file of networks, one on each line.

    @ivar path: absolute.
    """

    path: str


class PortSpan(NamedTuple):
    """
    Ports in a row.

    @ivar protocol: L{None} for each.
    @ivar first: the lowest port.
    @ivar last: the highest one.
    """

    protocol: Protocol | None
    first: int
    last: int

    def includes(self, protocol: Protocol, port: int) -> bool:
        """Whether it has a port."""
        return self.protocol in (None, protocol) and self.first <= port <= self.last


class Conditions(NamedTuple):
    """
    What a rule asks for.  The values of one condition are alternatives, and one without values
    does not take part; C{domains}, C{networks} and C{countries} are one condition together.

    @ivar networks: the destination's address is in one of these.
    @ivar countries: codes of two capital letters.
    @ivar processes: whose flow it is.
    @ivar ports: the destination's.
    @ivar sources: the address of another machine whose flow it is.
    """

    domains: tuple[Pattern, ...] = ()
    networks: tuple[Network | ListFile, ...] = ()
    countries: tuple[str, ...] = ()
    processes: tuple[Selector, ...] = ()
    ports: tuple[PortSpan, ...] = ()
    sources: tuple[Network | ListFile, ...] = ()
    times: tuple[TimeSpan, ...] = ()


#: No condition at all: all flows meet it.
NONE = Conditions()


class FlowRule(NamedTuple):
    """
    One entry of C{rules}.

    @ivar to: the name of an upstream, or C{direct}, C{reject} or C{drop}.
    @ivar wants: all of these must hold.
    @ivar never: all of these together must not hold; L{NONE} says nothing.
    @ivar lan: whether it takes local and reserved destinations even if it names no destination.
    @ivar where: where it was written, such as C{"/etc/nanotun.yaml, line 14"}.
    """

    to: str
    wants: Conditions
    never: Conditions = NONE
    lan: bool = False
    where: str = ""
