"""nanotun: all traffic of a machine, or of one command, through a proxy."""

__version__ = "1.0.0"
