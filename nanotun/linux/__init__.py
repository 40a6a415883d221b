"""What the other parts ask of this Linux machine: netlink, networks, addresses."""
