"""
Runs the checks, all at the same time and each within a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, gatherResults, maybeDeferred
from twisted.python.failure import Failure

from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.errors import NanotunError

#: Seconds for each check, and for all, as they run at the same time.
CHECK_LIMIT = 12.0


def examine(
    checks: Sequence[ICheck], clock: Any, limit: float = CHECK_LIMIT
) -> Deferred[list[Finding]]:
    """
    Run all checks.

    @param clock: an L{IReactorTime<twisted.internet.interfaces.IReactorTime>}.
    @param limit: seconds for each check.
    @return: fires with the findings in the checks' order; it never fails.
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
    """An error's text with a capital letter, as C{nanotun:} does not precede it here."""
    return text[:1].upper() + text[1:]
