"""
C{make run}: the main job before your eyes, where it can do no harm.

    python -m tests.e2e.demo [--proxy socks5://host:port [--url URL]]
"""
