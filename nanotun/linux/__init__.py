"""What the other parts ask this Linux machine: netlink, the network, users, cgroups."""
