"""The DNS relay: messages, cache, servers and the queries to them."""
