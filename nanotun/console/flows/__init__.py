"""
C{nanotun flows}: show which connections are open, whose they are and where they go.
"""

from __future__ import annotations

from collections.abc import Sequence

from nanotun.console.command import run
from nanotun.console.flows.looks import Looker
from nanotun.console.flows.options import FlowsOptions
from nanotun.console.flows.rows import Row
from nanotun.console.flows.shown import Shown, show
from nanotun.console.flows.text import FLOW_COLUMNS


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = FlowsOptions()

    def work() -> int:
        shown: Shown[Row] = Shown(FLOW_COLUMNS, options.sorted, list, {}, "flows")
        with Looker(options.runDir(), options.filter()) as looker:
            return show(shown, looker, options)

    return run("flows", options, arguments, work)
