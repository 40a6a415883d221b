"""Tests of L{nanotun.control}."""
