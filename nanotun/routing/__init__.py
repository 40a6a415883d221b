"""
What nanotun changes on the machine, and undoes: routes, rules, settings, the firewall.
"""
