"""
Where a flow goes, by what it is: pure, values in and values out.
"""
