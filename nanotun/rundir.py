"""
What is in C{runDir}, the directory of what lives as long as the daemon, or until a crash
of it is taken back.
"""

#: Held by the daemon with flock(2), with its pid inside.
LOCK = "lock"

#: Where the daemon is asked things; a unix socket.
SOCKET = "control.sock"

#: The pidfile of a daemon in the background.
PIDFILE = "nanotun.pid"

#: What the daemon has changed on the machine.
JOURNAL = "journal.json"
