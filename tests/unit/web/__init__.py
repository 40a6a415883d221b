"""Tests of L{nanotun.web}."""
