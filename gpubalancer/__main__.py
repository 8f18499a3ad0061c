"""`python -m gpubalancer` is the command `gpubalancer`."""

from gpubalancer.cli import main

main()
