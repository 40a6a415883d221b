"""
Runs the checks, all at once and none for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, gatherResults, maybeDeferred
from twisted.python.failure import Failure

from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.errors import NanotunError

#: Seconds for one check; the whole is no longer, as they run at the same time.
CHECK_LIMIT = 12.0


def examine(
    checks: Sequence[ICheck], clock: Any, limit: float = CHECK_LIMIT
) -> Deferred[list[Finding]]:
    """
    Run all of them.

    @param clock: an C{IReactorTime}.
    @param limit: seconds for each.
    @return: fires, never with a failure, with what was found, in the checks' order.
    """

    def one(check: ICheck) -> Deferred[list[Finding]]:
        found: Deferred[Any] = maybeDeferred(check.run)  # type: ignore[call-overload]
        found.addTimeout(limit, clock)
        found.addErrback(explain, str(check.name))
        return found

    def explain(failure: Failure, name: str) -> list[Finding]:
        if failure.check(TimeoutError):
            return [
                Finding(
                    name,
                    Level.WARN,
                    f"This took longer than {limit:g} s and was given up.",
                    "Run 'nanotun doctor' again when the machine is less busy.",
                )
            ]
        if failure.check(NanotunError):
            return [Finding(name, Level.FAIL, _sentence(failure.getErrorMessage()))]
        return [
            Finding(
                name,
                Level.WARN,
                f"This check itself failed: {failure.value!r}.",
                "Please report it.",
            )
        ]

    def flatten(lists: list[list[Finding]]) -> list[Finding]:
        return [finding for findings in lists for finding in findings]

    return gatherResults([one(check) for check in checks]).addCallback(flatten)


def _sentence(text: str) -> str:
    """The text of an error with a capital: it is not behind C{nanotun:} here."""
    return text[:1].upper() + text[1:]
