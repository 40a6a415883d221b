"""
The laboratory: three network namespaces, the proxies and servers in them, and
the daemon under test.

    app                              proxy                     world
    client programs, TUN nano0       dante, microsocks         the servers
    up0 10.77.1.2  fd77:1::2  ---->  down0 .1.1  1::1
                                     up0 10.77.2.1 fd77:2::1 -> down0 10.77.2.2 fd77:2::2

The app has no route to the world but the one that a test adds through the TUN,
and the proxy's namespace does not forward (L{topology.Lab.openDirectPath}
changes that for marked packets).
"""
