"""
The files in C{runDir}, which exist while the daemon runs, or after a crash until its changes
are undone; and the commands that find them.
"""

import shlex

#: Where C{runDir} is unless it is set.
RUN_DIR = "/run/nanotun"

#: Locked by the daemon with flock(2); holds its pid.
LOCK = "lock"

#: The unix socket that answers commands.
SOCKET = "control.sock"

#: The pidfile of a daemon in the background.
PIDFILE = "nanotun.pid"

#: What a monitor has to send for the metrics; it stays when the daemon stops.
METRICS_TOKEN = "metrics.token"

#: What a browser has to send for the web page; it stays, too.
WEB_TOKEN = "web.token"

#: The changes that the daemon has made to the machine.
JOURNAL = "journal.json"


def command(word: str, runDir: str) -> str:
    """A command about the daemon of a C{runDir}, as the user would type it in a shell."""
    where = "" if runDir == RUN_DIR else f" --run-dir {shlex.quote(runDir)}"
    return f"nanotun {word}{where}"
