"""
C{nanotun history}: what flows there were, from the file of C{flowLog}.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.python import usage

from nanotun.config.arguments import wrongUsage
from nanotun.console import GOOD
from nanotun.console.command import run
from nanotun.console.history.options import HistoryOptions
from nanotun.console.history.text import flowJson, flowLines, sumJson, sumLines
from nanotun.errors import WrongOption
from nanotun.history.reader import HistoryFilter, HistoryReader

#: What is said of sums for which single flows are not kept long enough.
WHOLE_DAYS = "Whole days: of the flows of some of this time, only the totals of each day are kept."


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = HistoryOptions()

    def work() -> int:
        wanted = _filter(options)
        with HistoryReader(options.path()) as reader:
            show = _showSums if options["by"] else _showFlows
            show(reader, wanted, options)
        return GOOD

    return run("history", options, arguments, work)


def _filter(options: HistoryOptions) -> HistoryFilter:
    try:
        return options.filter(time.time())
    except usage.UsageError as error:
        raise WrongOption(wrongUsage(error, "history")) from None


def _showFlows(reader: HistoryReader, wanted: HistoryFilter, options: HistoryOptions) -> None:
    # One more, to know whether there is any.
    found = [flowJson(each) for each in reader.flows(wanted, options.limit + 1)]
    flows, more = found[: options.limit], len(found) > options.limit
    if options["json"]:
        _printJson(_time(wanted), "flows", flows, more)
        return
    print("\n".join(flowLines(flows, _width())) if flows else _nothing(wanted))
    if more:
        print(f"These are the last {options.limit}; --limit shows more.")


def _showSums(reader: HistoryReader, wanted: HistoryFilter, options: HistoryOptions) -> None:
    by = options["by"]
    found, wholeDays = reader.sums(wanted, by)
    sums, left = found[: options.limit], len(found) - options.limit
    if options["json"]:
        fields = {**_time(wanted), "by": by, "wholeDays": wholeDays}
        _printJson(fields, "totals", [sumJson(each) for each in sums], left > 0)
        return
    print("\n".join(sumLines(sums, by, _width())) if sums else _nothing(wanted))
    if left > 0:
        print(f"There are {left} more; --limit shows them.")
    if wholeDays and sums:
        print(WHOLE_DAYS)


def _time(wanted: HistoryFilter) -> dict[str, Any]:
    return {"since": wanted.since or None, "until": wanted.until or None}


def _printJson(
    fields: Mapping[str, Any], name: str, rows: Sequence[Mapping[str, Any]], more: bool
) -> None:
    """One object, with each row on a line of its own."""
    begin = json.dumps({**fields, "more": more}).removesuffix("}")
    texts = ",\n ".join(map(json.dumps, rows))
    if texts:
        texts = f"\n {texts}\n"
    print(f'{begin}, "{name}": [{texts}]}}')


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _nothing(wanted: HistoryFilter) -> str:
    if wanted == HistoryFilter():
        return "No flow has been recorded yet."
    return "No flow that was recorded is meant by that."
