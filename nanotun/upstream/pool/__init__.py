"""Connections to a proxy that are kept ready, and how a dial reuses one."""
