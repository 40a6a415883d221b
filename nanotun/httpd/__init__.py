"""
What the daemon's servers of HTTP share: who gets an answer, and how much of the daemon a client
may take.  Imported only if a setting asks for such a server.
"""
