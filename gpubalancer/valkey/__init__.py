"""Budgets on one Valkey or Redis server, for several balancers; see docs/decisions/0013-shared-budgets.md."""
