"""Networks: a namespace per VPC with routed taps, dnsmasq and nftables; and a fake."""
