"""Upstreams: the ways for flows to leave, through a proxy or directly."""
