"""
The schemes of proxy URLs: one entry each, one file per family, and the table that
lists them.

A scheme is added by an entry here and its name in L{nanotun.upstream.schemes.table};
a package of its own adds one as docs/extending.md says.
"""
