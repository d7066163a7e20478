"""Which addresses are on the public internet. Pure.

`ipaddress.is_global` follows IANA's special-purpose registries; what it calls global and still leads inside (networks
that carry IPv4 addresses in IPv6 ones, and where clouds answer their machines) is refused as a whole, because nobody
serves files there.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

_INSIDE = tuple(
    ip_network(network)
    for network in (
        "::/96",  # IPv4-compatible, deprecated
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "fec0::/10",  # site-local, deprecated
        "192.88.99.0/24",  # 6to4 relays
        "192.0.0.0/24",  # the IETF's protocols, of which older Pythons know a part; Oracle's metadata are at .192
        "168.63.129.16/32",  # Azure's platform, as its machines see it
    )
)


def is_public(address: str) -> bool:
    """Whether a numeric address is one that anybody on the internet may be sent to."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:
            return False
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
    if any(ip.version == network.version and ip in network for network in _INSIDE):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)
