"""Opens connections: addresses, marked sockets, handshakes, deadlines."""
