"""Columns in shared memory: telemetry, slots, later budgets. One writer per cell, any reader, no locks."""
