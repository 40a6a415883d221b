"""
The record of flows that have ended: what C{flowLog} keeps in a file, and C{nanotun history}
reads.
"""
