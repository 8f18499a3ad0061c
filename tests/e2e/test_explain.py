"""`gpubalancer explain` as a process, on the policies that come with the project."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.clients import ask, chat
from tests.e2e.conftest import Front
from tests.e2e.processes import COMMAND, eventually

CHECKOUT = Path(__file__).parents[2]
REQUESTS = CHECKOUT / "tests" / "data" / "requests"
WHOLE, LEAST = CHECKOUT / "config" / "gpubalancer.yaml", CHECKOUT / "config" / "least.yaml"


def explain(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the command."""
    command = [*COMMAND, "explain", *(str(each) for each in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def decision(*arguments: object) -> dict[str, Any]:
    """What it prints with `--json`."""
    done = explain("--json", *arguments)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_chat_goes_to_the_gpu_that_is_cleared() -> None:
    """Of the whole example's backends one serves the model and may see acme's tier; its terms add up to its total."""
    answer = decision("--config", WHOLE, "--tenant", "acme", REQUESTS / "chat.json")
    assert {row["name"]: row["dropped"] for row in answer["backends"]} == {
        "h100-a": None,
        "cpu-1": "model",
        "cloud": "clearance",
    }
    assert (answer["choice"], answer["work"]["model"], answer["work"]["counted"]) == ("h100-a", "llama-3.1-8b", True)
    chosen = answer["backends"][0]
    assert abs(sum(chosen["terms"].values()) - chosen["total_s"]) < 1e-9


def test_a_sensitive_request_never_goes_to_the_cloud() -> None:
    """The operator's own pattern raises the tier, and neither table nor JSON tells the text."""
    arguments = ("--config", WHOLE, "--tenant", "research", REQUESTS / "confidential.json")
    answer = decision(*arguments)
    assert (answer["work"]["tier"], answer["work"]["tier_source"]) == ("restricted", "detector:project-falcon")
    assert {row["name"]: row["dropped"] for row in answer["backends"]}["cloud"] == "clearance"
    done = explain(*arguments)
    assert done.returncode == 0
    assert "found: project-falcon 1" in done.stdout
    assert "schedule" not in done.stdout + done.stderr + json.dumps(answer)


def test_the_least_policy_says_what_it_cannot_know() -> None:
    """Models that servers would have to be asked for are taken to be served, and a note says so."""
    done = explain("--config", LEAST, REQUESTS / "chat.json")
    assert done.returncode == 0
    assert "<- chosen" in done.stdout
    assert "Note: offline the models of 127.0.0.1:8000, 127.0.0.1:11434 cannot be known" in done.stdout


def test_a_policy_that_is_wrong_is_exit_2(tmp_path: Path) -> None:
    """As everywhere; what is wrong with the question is exit 1."""
    (tmp_path / "policy.yaml").write_text("backends: [{url: 5}]")
    wrong = explain("--config", tmp_path / "policy.yaml", REQUESTS / "chat.json")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    unknown = explain("--config", WHOLE, "--tenant", "nobody", REQUESTS / "chat.json")
    assert unknown.returncode == 1
    assert unknown.stderr.splitlines()[-1] == "There is no tenant 'nobody'; there are acme, research."
    assert "Traceback" not in wrong.stderr + unknown.stderr


def test_a_running_balancer_explains_what_it_does(front: Front, tmp_path: Path) -> None:
    """The choice is the backend that answers the same request; one that is being drained is named as that."""
    file, balancer = tmp_path / "request.json", front.balancer
    file.write_text(json.dumps(chat()))
    asked = ("--admin", f"http://127.0.0.1:{balancer.settings['admin']['port']}", file)
    answer = ask(balancer.port, body=chat())
    told = decision(*asked)
    assert answer.status == 200
    assert told["choice"] == answer.fields["x-gpubalancer-backend"]
    (row,) = told["backends"]
    name = row["name"]
    assert "<- chosen" in explain(*asked).stdout
    cost_s = balancer.metric("gpubalancer_backend_cost_seconds", f'backend="{name}"')
    assert cost_s > row["total_s"], "a typical request is longer than this one"
    assert balancer.admin("POST", f"/admin/v1/backends/{name}/drain")[0] == 200
    try:
        drained = eventually(lambda: (now := decision(*asked))["choice"] is None and now, "the drain to be seen")
        assert drained["backends"][0]["dropped"] == "draining"
    finally:
        balancer.admin("POST", f"/admin/v1/backends/{name}/undrain")
