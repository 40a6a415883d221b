"""Logging: where log lines are written, and in what format."""
