"""
What nanotun counts, for Prometheus: imported only if the setting C{metrics} is there.

The numbers are those of the status report, with a few that only this page has.  Nothing is
counted for a flow that is not counted anyway, and each label has a bounded number of values.
"""
