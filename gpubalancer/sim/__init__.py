"""Simulated engines that behave like real ones under load."""
