"""
Finds out what is wrong with this machine, configuration or proxy, and names the cure.

Each check is a small class that examines one thing and changes nothing.  What it examines
is passed in, so a test can give it a machine that is broken in exactly one respect.
"""
