"""
The packet engine: a ctypes binding of the native library, which has a stack for each
C{stackMode}.
"""
