"""
The last lines of the log, for those who look at it from elsewhere.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import deque
from collections.abc import Callable
from typing import Any

#: Lines that are kept.
KEPT = 1000

#: See L{nanotun.log.format.formatText}.
_TEXT = re.compile(r"\S+ (\w+) \[(.*?)\] (.*)", re.DOTALL)


class LogTail:
    """
    Keeps the last lines, as they are written; they are taken apart only if somebody reads them.

    @param now: seconds since 1970.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._numbers = itertools.count(1)
        # Any thread may log.
        self._kept: deque[tuple[int, float, str]] = deque(maxlen=KEPT)

    def write(self, line: str) -> None:
        """Keep a line.  The caller sees to it that nobody else does so at the same time."""
        self._kept.append((next(self._numbers), self._now(), line))

    def lines(self, limit: int, after: int = 0) -> list[dict[str, Any]]:
        """
        The newest lines, the oldest of them first.

        @param limit: how many, at most.
        @param after: the number of a line: only later ones.
        @return: C{number}, C{time} (seconds since 1970), C{level}, C{namespace} and C{text}.
        """
        kept = self._kept.copy()
        found = itertools.takewhile(lambda line: line[0] > after, reversed(kept))
        return [_parts(*line) for line in itertools.islice(found, limit)][::-1]


def _parts(number: int, time: float, line: str) -> dict[str, Any]:
    parts = {"number": number, "time": round(time, 3)}
    if line.startswith("{"):
        fields = json.loads(line)
        text = "\n".join(filter(None, (fields["text"], fields.get("traceback", "").rstrip())))
        return {**parts, "level": fields["level"], "namespace": fields["namespace"], "text": text}
    found = _TEXT.fullmatch(line.rstrip("\n"))
    level, namespace, text = ("info", "-", line) if found is None else found.groups()
    return {**parts, "level": level, "namespace": namespace, "text": text}
