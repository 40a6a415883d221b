"""
What nanotun does to the machine's routes, and takes back.
"""
