"""Tests of L{nanotun.upstream}."""
