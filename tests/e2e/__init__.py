"""
End-to-end tests: the real daemon, real proxies and real servers, in network namespaces that
each test makes and removes.

They need root, C{/dev/net/tun} and a few programs, which L{tests.e2e.case} lists.  If something
is missing, they are skipped with the reason.
"""
