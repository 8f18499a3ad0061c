"""Every decision. Nothing here waits, reads a clock or opens a socket: values and `now_s` in, values out."""
