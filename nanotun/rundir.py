"""
The files in C{runDir}, which exist while the daemon runs, or after a crash until its changes
are undone.
"""

#: Locked by the daemon with flock(2); holds its pid.
LOCK = "lock"

#: The unix socket that answers commands.
SOCKET = "control.sock"

#: The pidfile of a daemon in the background.
PIDFILE = "nanotun.pid"

#: The changes that the daemon has made to the machine.
JOURNAL = "journal.json"
