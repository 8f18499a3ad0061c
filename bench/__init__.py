"""Measurements of the balancer beside its peers; nothing here is part of the product."""
