"""Proxies' protocols without any I/O (sans-io): bytes in, bytes out."""
