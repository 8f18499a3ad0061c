"""HTTP/1.1 as bytes: heads, framing, connections, pools, relays and TLS. Knows nothing of policy."""
