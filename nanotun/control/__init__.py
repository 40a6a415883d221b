"""
What the daemon and the commands about it share: the directory of the running
instance, its lock and its control socket.
"""
