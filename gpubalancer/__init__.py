"""gpubalancer: the AI-aware load balancer.

One HTTP address in front of GPU, CPU and cloud inference servers. docs/architecture.md is the map.
"""

__version__ = "0.1.0"
