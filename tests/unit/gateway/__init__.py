"""Tests of L{nanotun.gateway}."""
