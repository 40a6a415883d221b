"""How the engine dials by itself, and how a dial goes on where the engine has stopped."""
