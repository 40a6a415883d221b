"""
Finds the process that a flow belongs to: one that C{excludedProcesses} or a rule names, a
proxy that runs on this machine, or whichever it is.  docs/processes.md is the users'
description.
"""
