"""
Reads what trial and C{go test} print, and tells which skipped tests are failures under CI: all but
those whose reason is in tests/skips.txt.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

LIST = Path(__file__).resolve().parent.parent / "tests" / "skips.txt"

_BLOCK = re.compile(
    r"^={79}\n\[(?P<result>[^]]+)\]\n(?P<reason>(?:(?!^={79}\n\[).)*?)\n\n"
    r"(?P<names>(?:[\w.]+\n)+)(?=[=-]{79}$)",
    re.MULTILINE | re.DOTALL,
)
FAILED = {"FAIL", "ERROR", "SUCCESS!?!"}
"""What trial calls failures, errors, and successes that a test did not expect."""
_GO_REASON = re.compile(r"\s+\w+\.go:\d+: (.*)")


class Skip(NamedTuple):
    """One test that was skipped."""

    name: str
    reason: str


def codename() -> str:
    """This machine's release, as C{bookworm}; empty if it has no name."""
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        return ""


def reasons(text: str, release: str) -> list[re.Pattern[str]]:
    """
    The reasons that are enough on a release.

    @param text: what tests/skips.txt has.
    @raise ValueError: a line is wrong.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            where, pattern = line.split(None, 1)
            compiled = re.compile(pattern.strip(), re.DOTALL)
        except (ValueError, re.error):
            raise ValueError(
                f"{LIST.name}, line {number}: write a release or *, and a regular expression"
            ) from None
        if where in ("*", release):
            found.append(compiled)
    return found


def trialSkips(output: str) -> Iterator[Skip]:
    """
    Read which tests trial has skipped.

    @param output: everything that it printed.
    """
    for block in _BLOCK.finditer(output):
        if block["result"] == "SKIPPED":
            for name in block["names"].split():
                yield Skip(name, block["reason"].strip())


def trialFailures(output: str) -> list[str]:
    """
    Read which tests have failed.

    @param output: everything that trial printed.
    @return: a test that failed twice, as in its end and its cleanup, is there once.
    """
    blocks = (b for b in _BLOCK.finditer(output) if b["result"] in FAILED)
    return list(dict.fromkeys(name for block in blocks for name in block["names"].split()))


def goSkips(events: Sequence[dict[str, str]]) -> Iterator[Skip]:
    """Read which tests C{go test -json} has skipped."""
    said: dict[tuple[str | None, str], list[str]] = {}
    for event in events:
        test = event.get("Test")
        if test is None:
            continue
        lines = said.setdefault((event.get("Package"), test), [])
        if event["Action"] == "output":
            found = _GO_REASON.fullmatch(event.get("Output", "").rstrip("\n"))
            if found is not None:
                lines.append(found[1])
        elif event["Action"] == "skip":
            yield Skip(f"{event.get('Package')}.{test}", "\n".join(lines))


def unlisted(skips: Iterator[Skip], accepted: Sequence[re.Pattern[str]]) -> list[Skip]:
    """Those of C{skips} that none of the accepted reasons covers."""
    return [skip for skip in skips if not any(each.fullmatch(skip.reason) for each in accepted)]
