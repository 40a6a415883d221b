"""
Decides where a flow goes.  Pure: values in, values out.
"""
