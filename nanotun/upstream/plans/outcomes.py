"""
What becomes of the dials of a single upstream's plans.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.interfaces import Connection, DialEnd, IDialOutcomes
from nanotun.upstream.plans.begun import Begun


@implementer(IDialOutcomes)
class Outcomes:
    """
    Of one plan.

    @param begun: what the plan says.
    @param worked: called with it and the number of the address whenever a dial has succeeded.
    @param resume: goes on with a dial.
    """

    __slots__ = ("_begun", "_resume", "_worked")

    def __init__(
        self,
        begun: Begun,
        worked: Callable[[Begun, int], None],
        resume: Callable[[Begun, DialEnd], Deferred[Connection]],
    ) -> None:
        self._begun = begun
        self._worked = worked
        self._resume = resume

    def opened(self, count: int, seconds: float, address: int) -> None:
        """See L{IDialOutcomes.opened}."""
        self._worked(self._begun, address)

    def resume(self, end: DialEnd) -> Deferred[Connection]:
        """See L{IDialOutcomes.resume}."""
        return self._resume(self._begun, end)

    def silent(self, engine: Deferred[DialEnd], seconds: float) -> Deferred[Connection]:
        """See L{IDialOutcomes.silent}."""
        return engine.addCallback(self.resume)

    def abandoned(self, seconds: float) -> None:
        """See L{IDialOutcomes.abandoned}; only a group draws conclusions."""
