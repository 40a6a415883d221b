"""
Plans of a group's members, with outcomes that tell the group.

What a plan's dial says of its member is what L{nanotun.interfaces.IUpstream.connect} would say.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Connection,
    Course,
    DialEnd,
    DialPlan,
    IDialOutcomes,
    IPlanned,
    IUpstream,
)
from nanotun.upstream.group.member import Member
from nanotun.upstream.group.outcomes import IOutcomes
from nanotun.upstream.group.tries import DOUBT_TIME

#: Courses that a group keeps.  Each member has one or two, and each program one of its own.
COURSES_LIMIT = 256

#: Takes a member's dial that the engine began, and how many seconds ago that was.  Returns the
#: leg to take.
Follow = Callable[["Deferred[Connection]", float], "Deferred[Connection]"]


def planOf(upstream: IUpstream, destination: Endpoint) -> DialPlan | None:
    """See L{IPlanned.plan}; of an upstream that need not provide it."""
    planned = IPlanned(upstream, None)
    return None if planned is None else planned.plan(destination)


class MemberCourses:
    """
    Makes the courses of a group of those of its members, and keeps the last ones: a course is
    made once, and most flows come with the same few.

    @param timeout: seconds that the group allows.
    @param patience: see L{Course}.
    """

    def __init__(self, timeout: float, patience: float) -> None:
        self._timeout = timeout
        self._patience = patience
        # By identity, since the hash of a course takes as long as to make one.
        self._made: dict[int, tuple[Course, Course]] = {}

    def of(self, course: Course) -> Course:
        """The group's, for a member's."""
        found = self._made.get(id(course))
        if found is not None:
            return found[1]
        if len(self._made) >= COURSES_LIMIT:
            self._made.clear()
        timeout = min(course.timeout, self._timeout)
        made = course._replace(timeout=timeout, patience=self._patience)
        # With the member's own, so that no other one gets its identity.
        self._made[id(course)] = course, made
        return made


@implementer(IDialOutcomes)
class MemberDials:
    """
    What becomes of the dials of a member's plan.

    @param dials: the member's own outcomes of that plan.
    @param outcomes: told of those that succeed, and of doubts.
    @param follow: goes on with all others; see L{Follow}.
    """

    __slots__ = ("_dials", "_follow", "_member", "_outcomes")

    def __init__(
        self, dials: IDialOutcomes, member: Member, outcomes: IOutcomes, follow: Follow
    ) -> None:
        self._dials = dials
        self._member = member
        self._outcomes = outcomes
        self._follow = follow

    def opened(self, count: int, seconds: float, address: int) -> None:
        """
        See L{IDialOutcomes.opened}.  Several count as one: they were reported together, and may
        all be older than a fault that came meanwhile.
        """
        self._dials.opened(count, seconds, address)
        self._outcomes.opened(self._member, seconds)

    def resume(self, end: DialEnd) -> Deferred[Connection]:
        """See L{IDialOutcomes.resume}."""
        return self._follow(self._dials.resume(end), end.seconds)

    def silent(self, engine: Deferred[DialEnd], seconds: float) -> Deferred[Connection]:
        """See L{IDialOutcomes.silent}."""
        return self._follow(engine.addCallback(self._dials.resume), seconds)

    def abandoned(self, seconds: float) -> None:
        """See L{IDialOutcomes.abandoned}."""
        self._dials.abandoned(seconds)
        if seconds >= DOUBT_TIME:
            self._outcomes.doubtful(self._member)
