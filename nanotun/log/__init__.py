"""Which log lines go where, and in what form."""
