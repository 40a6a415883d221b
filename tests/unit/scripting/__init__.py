"""Tests of L{nanotun.scripting}."""
