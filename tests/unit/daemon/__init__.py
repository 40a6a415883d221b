"""Tests of L{nanotun.daemon}."""
