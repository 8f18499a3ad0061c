"""What we learn from outside (probes, engines) and what we tell (metrics)."""
