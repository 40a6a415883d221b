"""Tests of C{nanotun capture}."""
