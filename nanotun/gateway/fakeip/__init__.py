"""fake-ip: addresses that stand for names."""
