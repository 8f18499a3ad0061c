"""Budgets on one Valkey or Redis server, for several balancers; see docs/decisions/0012-shared-budgets.md."""
