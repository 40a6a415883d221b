"""
C{nanotun capture}: write the device's packets to a file, with the program and the rule of each
flow.
"""
