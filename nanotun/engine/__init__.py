"""
The packet engines: a ctypes binding of the native library and, on it, the two
stacks that a user chooses between with C{stackMode}.
"""
