"""
What the composition root is made of, beside itself: each module here puts one side of
the daemon together.
"""
