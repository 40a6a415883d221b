"""Text from file, flags and environment to one frozen Settings."""
