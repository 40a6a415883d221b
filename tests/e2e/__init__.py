"""
End-to-end tests: the real daemon, real proxies and real servers, in network
namespaces that each test makes and removes.

They need root, C{/dev/net/tun} and a few programs (L{tests.e2e.case} lists
them); where one is missing they skip with the reason, and under CI (the
environment has C{CI}) they fail instead.
"""
