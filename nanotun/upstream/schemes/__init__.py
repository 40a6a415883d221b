"""The proxy URL schemes, one file each, and the table that lists them."""
