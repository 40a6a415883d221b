"""
C{nanotun top}: sum up the open flows.
"""

from __future__ import annotations

from collections.abc import Sequence

from nanotun.console.command import run
from nanotun.console.flows.looks import Looker
from nanotun.console.flows.options import TopOptions
from nanotun.console.flows.rows import Total, totals
from nanotun.console.flows.shown import Shown, show
from nanotun.console.flows.text import totalColumns


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = TopOptions()

    def work() -> int:
        by = options["by"]
        shown: Shown[Total] = Shown(
            totalColumns(by),
            options.sorted,
            lambda rows: totals(rows, by),
            {"by": by},
            "totals",
        )
        with Looker(options.runDir(), options.filter()) as looker:
            return show(shown, looker, options)

    return run("top", options, arguments, work)
