"""
What is wrong with this machine, this configuration or this proxy, and its cure.

Each check is a small class that looks at one thing and changes nothing.  They are
given what they look at, so that each can be tried against a machine that is broken in
just that way.
"""
