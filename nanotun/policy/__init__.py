"""
Decides where a flow goes.  Pure, but for the functions that the judge is given: they know
owners, routes and addresses.
"""
