"""What is said to a proxy, as sans-io protocols: bytes in, bytes out."""
