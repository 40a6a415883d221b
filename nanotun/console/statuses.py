"""
The exit statuses of C{nanotun}.  NOT_RUNNING is what the Linux Standard Base has an init
script's status say of a program that is not running.
"""

GOOD = 0
FAILED = 1
WRONG_USAGE = 2
NOT_RUNNING = 3
