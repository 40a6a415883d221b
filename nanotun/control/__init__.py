"""
What the daemon shares with the commands that control it: the directory of the running
instance, its lock and its control socket.
"""
