"""
An upstream whose user names are templates: each program has connections of its own.

What is known of the proxies, their health above all, is common to all programs; only the
sockets are a program's own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeAlias

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from nanotun.errors import ConfigError, ProxyError
from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Connection,
    DatagramLeg,
    DialPlan,
    INamedDatagrams,
    IPlanned,
    IUpstream,
)
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.member import Member

#: Programs of one upstream.  More than talk at a time; each may keep connections ready.
PROGRAMS_LIMIT = 64

#: Connections that are kept ready for one program.
POOL_PER_PROGRAM = 2

#: The fields of the templates with their texts, in the order of their names.
Values: TypeAlias = "tuple[tuple[str, str], ...]"

#: Makes one program's upstreams, in the order of the members; takes the parent of what keeps
#: connections ready.
Make: TypeAlias = "Callable[[Values, MultiService], Sequence[IUpstream]]"


@implementer(IUpstream, INamedDatagrams, IPlanned)
class ProgramUpstream:
    """
    The upstream of one program.

    @ivar services: keep its connections ready.
    """

    def __init__(self, group: GroupUpstream, values: Values, make: Make) -> None:
        self.services = MultiService()
        self._group = group
        self._flaw = ""
        made: Sequence[IUpstream] = []
        try:
            made = make(values, self.services)
        except ConfigError as error:
            # Made long after the settings were checked: a file may have gone since.
            self._flaw = str(error)
        self._own = dict(zip(group.members.all, made, strict=not self._flaw))

    @property
    def sharesLegs(self) -> bool:
        """See L{IUpstream}."""
        return self._group.sharesLegs

    @property
    def sendsNames(self) -> bool:
        """See L{IUpstream}."""
        return self._group.sendsNames

    @property
    def carriesDatagrams(self) -> bool:
        """See L{IUpstream}."""
        return self._group.carriesDatagrams

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""
        if self._flaw:
            return fail(ProxyError(self._flaw))
        return self._group.connect(destination, self._ownOf)

    def plan(self, destination: Endpoint) -> DialPlan | None:
        """See L{IPlanned.plan}.  No other program's flows may use it, so it never stands."""
        if self._flaw:
            return None
        return self._group.plan(destination, self._ownOf)

    def associate(self, family: int) -> Deferred[DatagramLeg]:
        """See L{IUpstream.associate}."""
        if self._flaw:
            return fail(ProxyError(self._flaw))
        return self._group.associate(family, self._ownOf)

    def associateNamed(self, family: int) -> Deferred[DatagramLeg]:
        """See L{INamedDatagrams.associateNamed}."""
        if self._flaw:
            return fail(ProxyError(self._flaw))
        return self._group.associateNamed(family, self._ownOf)

    def dials(self, endpoint: Endpoint) -> bool:
        """See L{IUpstream.dials}."""
        return self._group.dials(endpoint)

    def describe(self) -> str:
        """See L{IUpstream.describe}; the template, not the program's own name."""
        return self._group.describe()

    def _ownOf(self, member: Member) -> IUpstream:
        return self._own[member]


class PerProgram(MultiService):
    """
    The upstreams of all programs.

    @param group: made with nanotun's own name, for checks and for what nanotun itself sends.
    @param make: see L{Make}.
    @param full: called when a program makes way for another.
    """

    def __init__(
        self,
        group: GroupUpstream,
        make: Make,
        full: Callable[[], None],
        limit: int = PROGRAMS_LIMIT,
    ) -> None:
        super().__init__()
        self._group = group
        self._make = make
        self._full = full
        self._limit = limit
        # The one that was silent for longest comes first.
        self._programs: OrderedDict[Values, ProgramUpstream] = OrderedDict()

    def __len__(self) -> int:
        return len(self._programs)

    def __bool__(self) -> bool:
        return True

    def upstreamOf(self, values: Values) -> ProgramUpstream:
        """
        The upstream of the program with these values.  Never raises.  The one that makes way
        for it works on, but keeps no connections ready any more.
        """
        found = self._programs.get(values)
        if found is not None:
            self._programs.move_to_end(values)
            return found
        if len(self._programs) >= self._limit:
            _, oldest = self._programs.popitem(last=False)
            oldest.services.disownServiceParent()
            self._full()
        found = self._programs[values] = ProgramUpstream(self._group, values, self._make)
        found.services.setServiceParent(self)
        return found
