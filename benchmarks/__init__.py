"""
The project's public benchmark: C{python -m benchmarks}.

What nanotun carries, beside the bare kernel path and beside a client that
speaks SOCKS5 itself to the same proxy, in the network namespaces of
L{tests.e2e.lab}.  Nothing leaves the machine.
"""
