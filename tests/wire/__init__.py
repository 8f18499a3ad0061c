"""Bytes: heads, framing, connections."""
