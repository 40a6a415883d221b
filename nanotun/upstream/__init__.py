"""Where flows leave: through a proxy, directly, or not at all."""
