"""Tests of what is installed: packages, generated files, init script, unit."""
