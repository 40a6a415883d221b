"""
C{nanotun explain}: which rule decides about a flow, and why.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence

from twisted.python import usage

from nanotun.config.arguments import wrongUsage
from nanotun.console import FAILED, GOOD, WRONG_USAGE
from nanotun.console.explain.answer import explain, settingsOf, text
from nanotun.console.explain.options import ExplainOptions
from nanotun.errors import ConfigError, NanotunError


def main(arguments: Sequence[str]) -> int:
    """
    Explain one flow.

    @param arguments: those after C{explain}.
    @return: the exit status; L{WRONG_USAGE} for a wrong command line or configuration.
    """
    status = WRONG_USAGE
    options = ExplainOptions()
    try:
        options.parseOptions(list(arguments))
        # A script may print when it is imported or asked.
        with contextlib.redirect_stdout(sys.stderr):
            found = explain(options)
    except usage.UsageError as error:
        sentence = wrongUsage(error, "explain")
    except ConfigError as error:
        sentence = str(error)
    except NanotunError as error:
        status, sentence = FAILED, str(error)
    else:
        print(json.dumps(found) if options["json"] else text(found, settingsOf(options)))
        return GOOD
    print(f"nanotun explain: {sentence}", file=sys.stderr)
    return status
