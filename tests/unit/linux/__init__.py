"""Tests of L{nanotun.linux}."""
