"""
Loads the user's script, calls its functions, and copes with whatever they do.
"""
