"""
The project's public benchmark: C{python -m benchmarks}.

Measures nanotun's throughput and rates, and compares them with the kernel alone and with
a client that speaks SOCKS5 itself to the same proxy, in the network namespaces of
L{tests.e2e.lab}.  Nothing leaves the machine.
"""
