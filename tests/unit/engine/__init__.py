"""Tests of L{nanotun.engine}."""
