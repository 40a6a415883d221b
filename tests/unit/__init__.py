"""
Unit tests, one folder for each part of nanotun.

None of them reads the configuration of the machine that they run on.
"""

from nanotun.config.options import Options
from nanotun.console.command import AskOptions

Options.defaultFile = AskOptions.defaultFile = ""
