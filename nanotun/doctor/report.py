"""
The findings as text or JSON.  Pure.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Sequence

from nanotun.doctor.finding import Finding, Level

WIDTH = 80  #: Columns.

#: SGR parameters (ECMA-48, 8.3.117).
COLOURS = {Level.OK: "32", Level.INFO: "36", Level.WARN: "33;1", Level.FAIL: "31;1"}


def asText(findings: Sequence[Finding], colour: bool = False, width: int = WIDTH) -> str:
    """
    The report for people: per finding, its level, check and sentence, then the cure after
    an arrow.

    @param colour: whether to colour the levels for a terminal.
    @param width: columns.
    """
    widest = max((len(finding.check) for finding in findings), default=0)
    indent = 4 + 2 + widest + 2
    lines = []
    for finding in findings:
        level = f"{finding.level.name.lower():4}"
        if colour:
            level = f"\x1b[{COLOURS[finding.level]}m{level}\x1b[0m"
        text = _wrap(finding.text, width - indent)
        lines.append(f"{level}  {finding.check:{widest}}  {text[0]}")
        lines += [" " * indent + line for line in text[1:]]
        if finding.cure:
            first, *more = _wrap(finding.cure, width - indent - 3)
            lines.append(" " * indent + "-> " + first)
            lines += [" " * (indent + 3) + line for line in more]
    return "\n".join([*lines, "", summary(findings)])


def summary(findings: Sequence[Finding]) -> str:
    """One sentence that sums up the findings."""
    count = Counter(finding.level for finding in findings)
    if not count[Level.FAIL] and not count[Level.WARN]:
        return "All is well."
    parts = [
        f"{count[level]} {word if count[level] == 1 else word + 's'}"
        for level, word in ((Level.FAIL, "failure"), (Level.WARN, "warning"))
        if count[level]
    ]
    return f"{' and '.join(parts)}."


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def asJSON(findings: Sequence[Finding]) -> str:
    """An array of objects with the fields of L{Finding}."""
    return json.dumps(
        [
            {
                "check": finding.check,
                "level": finding.level.name.lower(),
                "text": finding.text,
                "cure": finding.cure,
            }
            for finding in findings
        ],
        indent=2,
    )
