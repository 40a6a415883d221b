"""
The TUN device: opened and configured, then read by the reactor.
"""
