"""Are prompt tokens expected rightly? What the balancer wrote in its access log, beside what engines reported.

    python -m bench.counts --vllm PYTHON --model FOLDER --llama3 FILE --qwen FILE

PYTHON is an interpreter that has vllm (a build for CPUs will do), FOLDER a small model with its `tokenizer.json`, and
the two files are the models' own vocabularies in tiktoken's form (Llama 3's `tokenizer.model`, Qwen's `qwen.tiktoken`).
What is not given is left out, and the report says so. llama.cpp and Gemma are those of `make test-real`.

Every conversation goes through `gpubalancer serve` and asks for one token. The report, bench/results/counts.md, has
every kind of wrong count with its traits.
"""

import shutil
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench import machine
from bench.conversations import Conversation, conversations
from bench.counts_report import Learned, Served, report
from bench.vocabularies import against_references
from tests.e2e.clients import ask
from tests.e2e.processes import Balancer, eventually, free_port, serving
from tests.real.servers import LOCAL, Server, llamacpp, page, python_of, started

CHECKOUT = Path(__file__).parent.parent
RESULT = CHECKOUT / "bench" / "results" / "counts.md"
TEMPLATES = Path(__file__).with_name("templates")
START_WITHIN_S = 240.0
VLLM_CONTEXT_TOKENS, VLLM_MOST_BYTES = 8192, 14_000
GEMMA_MOST_BYTES = 800
"""A thread computes 200 tokens a second: a thousand conversations take a quarter of an hour."""

_VLLM_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "0",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}
_VLLM_OPTIONS = {
    "--served-model-name": "tiny",
    "--host": LOCAL,
    "--max-model-len": str(VLLM_CONTEXT_TOKENS),
    "--max-num-seqs": "8",
    "--dtype": "float32",
    "--num-gpu-blocks-override": "160",
    "--tool-call-parser": "hermes",
}


@dataclass(frozen=True)
class Counted:
    """One request: what was expected of it and what its engine reported; `refusal` says why there is no report."""

    conversation: Conversation
    expected: int
    reported: int
    refusal: str = ""

    @property
    def exact(self) -> bool:
        """Expected and reported are the same number."""
        return self.expected == self.reported


def through(balancer: Balancer, model: str, asked: Sequence[Conversation], at_once: int) -> list[Counted]:
    """Send conversations and read what the access log says of each.

    Arguments:
        balancer: that serves the model.
        model: public name.
        asked: what is sent, in order.
        at_once: requests in flight.
    """

    def send(numbered: tuple[int, Conversation]) -> str:
        number, conversation = numbered
        body = {**conversation.body, "model": model, "max_tokens": 1}
        answer = ask(balancer.port, body=body, fields={"x-request-id": f"{model}-{number}"})
        return "" if answer.status == 200 else _kind_of_refusal(answer.status, answer.json())

    with ThreadPoolExecutor(at_once) as pool:
        refusals = list(pool.map(send, enumerate(asked)))
    lines = eventually(lambda: _lines(balancer, model, len(asked)), "the access log")
    return [
        Counted(one, lines[n]["expected_prompt_tokens"], lines[n]["prompt_tokens"], refusals[n])
        for n, one in enumerate(asked)
    ]


def _lines(balancer: Balancer, model: str, number: int) -> list[dict[str, Any]]:
    """The access log's lines in the order asked; none until all are there."""
    by_id = {line["request_id"]: line for line in balancer.lines(model=model)}
    names = [f"{model}-{n}" for n in range(number)]
    return [by_id[name] for name in names] if all(name in by_id for name in names) else []


def _kind_of_refusal(status: int, answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else {}
    message = str(error.get("message", "") if isinstance(error, dict) else error).lower()
    return "longer than the context" if "context" in message else f"{status}: {message[:80]}"


@contextmanager
def vllm(python: str, folder: Path, log: Path) -> Iterator[Server]:
    """A vLLM server on the CPU for the time of a block."""
    port = free_port()
    options = [text for pair in _VLLM_OPTIONS.items() for text in pair]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--port", str(port)]
    command += [*options, "--enforce-eager", "--enable-auto-tool-choice"]
    with started(command, log, _VLLM_ENVIRONMENT) as process:

        def ready() -> bool:
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            return b'"id"' in page(port, "/v1/models")

        eventually(ready, f"vLLM to serve (its log: {log})", START_WITHIN_S)
        yield Server(port, process)


def copies(model: Path, directory: Path) -> dict[str, Path]:
    """The model with its own template, and once with each of ours."""
    made = {"the model's own template": model}
    for template in sorted(TEMPLATES.glob("*.jinja")):
        folder = directory / template.stem
        shutil.copytree(model, folder)
        shutil.copy(template, folder / "chat_template.jinja")
        made[f"bench/templates/{template.name}"] = folder
    return made


def on_vllm(python: str, folder: Path, directory: Path, number: int, seed: int) -> list[Counted]:
    """As many conversations as wanted with an answer, and those that were too long on the way."""
    directory.mkdir()
    with vllm(python, folder, directory / "vllm.log") as server:
        backend = {"name": "vllm", "url": server.url, "engine": "vllm", "models": ["tiny"], "slots": 8}
        models = {"tiny": {"tokenizer": str(folder / "tokenizer.json")}}
        with serving(directory, [backend], models=models) as balancer:
            drawn = conversations(number * 5 // 4, seed, most_bytes=VLLM_MOST_BYTES)
            return until_answered(through(balancer, "tiny", drawn, 4), number)


def until_answered(found: Sequence[Counted], number: int) -> list[Counted]:
    """The first requests, up to this number of answers."""
    taken: list[Counted] = []
    for one in found:
        if number == 0:
            break
        number -= not one.refusal
        taken.append(one)
    return taken


def on_llamacpp(directory: Path, number: int, seed: int) -> list[Counted]:
    """Conversations with Gemma, whose tokenizer the balancer is not told; one at a time, so that each is learned of."""
    directory.mkdir()
    with llamacpp(directory) as server:
        backend = {"name": "llama", "url": server.url, "engine": "llamacpp", "models": {"gemma": "gemma3"}, "slots": 2}
        with serving(directory, [backend]) as balancer:
            return through(balancer, "gemma", conversations(number, seed, most_bytes=GEMMA_MOST_BYTES, strict=True), 1)


def served(name: str, found: Sequence[Counted]) -> Served:
    """What the report says of one engine with one template."""
    answered = [one for one in found if not one.refusal]
    wrong = [one for one in answered if not one.exact]
    return Served(
        name,
        answered=len(answered),
        exact=len(answered) - len(wrong),
        tokens=sum(one.reported for one in answered),
        longest_tokens=max((one.reported for one in answered), default=0),
        refusals=Counter(one.refusal for one in found if one.refusal),
        traits=Counter(trait for one in answered for trait in one.conversation.traits),
        wrong_traits=Counter(trait for one in wrong for trait in one.conversation.traits),
        differences=Counter(one.expected - one.reported for one in wrong),
    )


def learned(found: Sequence[Counted]) -> Learned:
    """What the report says of counts that are estimated."""
    answered = [one for one in found if not one.refusal]
    errors = [one.expected / one.reported - 1 for one in answered]
    by_trait: dict[str, list[float]] = {}
    for one, error in list(zip(answered, errors, strict=True))[200:]:
        for trait in one.conversation.traits:
            by_trait.setdefault(trait, []).append(abs(error))
    return Learned(
        errors,
        sum(one.reported for one in answered),
        Counter(one.refusal for one in found if one.refusal),
        {trait: (len(values), statistics.median(values)) for trait, values in sorted(by_trait.items())},
    )


def version_of(python: str, package: str) -> str:
    """The version of a package in another interpreter."""
    program = f"from importlib.metadata import version; print(version({package!r}))"
    ended = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return ended.stdout.strip() or "unknown"


@click.command()
@click.option("--vllm", "python", default="", help="An interpreter that has vllm.")
@click.option("--model", type=click.Path(file_okay=False, path_type=Path), help="A small model with tokenizer.json.")
@click.option("--llama3", type=click.Path(dir_okay=False, path_type=Path), help="Llama 3's tokenizer.model.")
@click.option("--qwen", type=click.Path(dir_okay=False, path_type=Path), help="Qwen's qwen.tiktoken.")
@click.option("--count", "number", default=1000, show_default=True, help="Conversations for each engine.")
@click.option("--seed", default=1, show_default=True, help="Of the conversations.")
@click.option(
    "--output", default=RESULT, type=click.Path(dir_okay=False, path_type=Path), help="Where the report goes."
)
def main(
    python: str, model: Path | None, llama3: Path | None, qwen: Path | None, number: int, seed: int, output: Path
) -> None:
    """Count, compare and write the report."""
    about = machine.describe(CHECKOUT) | {"llama.cpp": f"xllamacpp {version_of(python_of('llamacpp'), 'xllamacpp')}"}
    counts: list[Served] = []
    with tempfile.TemporaryDirectory() as made, ThreadPoolExecutor(1) as pool:
        directory = Path(made)
        # Beside the others: the numbers do not depend on the time, and a 270-million-parameter model takes a second.
        gemma = pool.submit(on_llamacpp, directory / "run-gemma", number, seed)
        if python and model is not None:
            about["vLLM"] = ", ".join(f"{name} {version_of(python, name)}" for name in ("vllm-cpu", "transformers"))
            for index, (name, folder) in enumerate(copies(model, directory).items()):
                found = on_vllm(python, folder, directory / f"run-{index}", number, seed)
                counts.append(served(f"vLLM, {name}", found))
                click.echo(f"{counts[-1].name}: {counts[-1].exact} of {counts[-1].answered} exact", err=True)
        estimated = learned(gemma.result())
    texts = against_references(conversations(number, seed, most_bytes=VLLM_MOST_BYTES), llama3, qwen)
    output.write_text(report(counts, estimated, texts, about, f"--count {number} --seed {seed}"))
    click.echo(f"{output}", err=True)


if __name__ == "__main__":
    main()
