"""
The cell: a network namespace for one command, connected to the outside by the tunnel alone.

Two processes make it.  B{nanotun} stays in the machine's namespace, with the packet
engine and every socket to the proxy.  The B{helper}, its child, runs in the cell: it
makes the device there and passes its fd to nanotun, as the fd works from any namespace;
then it starts the command and waits for it.  The two communicate over
L{nanotun.cell.channel}.  If one process ends, the other notices at once, because the
channel closes, and ends the cell.

The namespaces have no names.  The kernel removes them, and everything mounted in them,
when the last process in them ends, for whatever reason.
"""
