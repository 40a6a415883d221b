"""
The cell: a network namespace for one command, whose only way out is the tunnel.

Two processes make it.  B{nanotun} stays in the machine's namespace, with the packet
engine and every socket to the proxy.  The B{helper}, its child, lives in the cell: it
makes the device there and hands the fd over, which works from any namespace; then it
starts the command and waits for it.  They talk over L{nanotun.cell.channel}, and when
either is gone the other notices at once: the end of the channel is the end of the cell.

The namespaces have no names.  The kernel removes them, with all that was mounted,
when the last process in them ends, whatever it died of.
"""
