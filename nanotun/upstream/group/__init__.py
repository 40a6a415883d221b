"""Several upstreams as one: which is tried, and how healthy each is."""
