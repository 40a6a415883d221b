"""Tests of L{nanotun.routing}."""
