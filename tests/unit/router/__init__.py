"""Tests of L{nanotun.router}."""
