"""
The firewall: its rules, and the programs that set them.
"""
