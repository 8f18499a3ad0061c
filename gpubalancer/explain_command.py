"""`gpubalancer explain`: the decision for a request in a file, by a policy file or by a running balancer.

Offline the request is understood and chosen for in this process; with `--admin` it is sent to the admin port, and what
comes back is printed the same. What can't be had is one sentence and exit 1. No text of the request is printed.
"""

import http.client
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import orjson

from gpubalancer.brain.document import read_document
from gpubalancer.brain.routes import CLAIMED, find_route
from gpubalancer.brain.tokens.tokenizer import TokenizerError
from gpubalancer.control.explain import CHAT, Question, explain_offline, write_question
from gpubalancer.control.explain_table import render
from gpubalancer.domain.errors import RequestError
from gpubalancer.policy.schema import Policy

EXPLAIN_PATH = "/admin/v1/explain"
DEADLINE_S = 30.0
"""For the admin port's answer: a policy's tokenizers may have to be loaded for the first question."""


class UnanswerableError(Exception):
    """There is no decision to print; the message is why, in one sentence."""


def explain_command(load: Callable[[Path], Policy]) -> click.Command:
    """The command.

    Arguments:
        load: reads a policy file, or says what is wrong with it and ends the process.
    """

    @click.command("explain")
    @click.option("--config", "path", type=click.Path(path_type=Path), help="The policy file, to decide offline.")
    @click.option("--admin", "url", help="Admin port of a running balancer, such as http://127.0.0.1:8081.")
    @click.option("--token-env", help="Environment variable that holds the admin token.")
    @click.option("--tenant", help="Who asks; who pays for requests without a key if not given.")
    @click.option("--path", "request_path", default=CHAT, show_default=True, help="Path of the request.")
    @click.option("--header", "headers", multiple=True, help="A header of the request, as `name: value`; repeatable.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
    @click.argument("request_file", metavar="REQUEST.json", type=click.Path(path_type=Path))
    def explain(
        path: Path | None,
        url: str | None,
        token_env: str | None,
        tenant: str | None,
        request_path: str,
        headers: tuple[str, ...],
        as_json: bool,
        request_file: Path,
    ) -> None:
        """Print which backend a request would go to, and why: REQUEST.json is its body."""
        if (path is None) == (url is None):
            raise click.UsageError("Either --config FILE or --admin URL is needed.")
        policy = load(path) if path is not None else None
        try:
            question = _question(request_file, tenant, request_path, headers)
            shown = _offline(question, policy) if policy is not None else _ask(url or "", token_env, question)
        except UnanswerableError as error:
            click.echo(str(error), err=True)
            sys.exit(1)
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode() if as_json else render(shown), nl=as_json)

    return explain


def _question(file: Path, tenant: str | None, path: str, headers: Sequence[str]) -> Question:
    try:
        body = file.read_bytes()
    except OSError as error:
        raise UnanswerableError(f"The request in {file} can't be read: {error.strerror}.") from None
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnanswerableError(f"{file} is not JSON: {error}.") from None
    if not path.startswith("/"):
        raise UnanswerableError(f"--path {path!r} must begin with a slash.")
    fields = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise UnanswerableError(f"--header {header!r} is not of the form `name: value`.")
        fields[name.strip().lower().encode(errors="replace")] = value.strip().encode(errors="replace")
    return Question(tenant, path, fields, body)


def _offline(question: Question, policy: Policy) -> dict[str, Any]:
    try:
        return explain_offline(question, policy, time.time())
    except RequestError as error:
        raise UnanswerableError(_refused(error.message, error.status, error.code)) from None
    except TokenizerError as error:
        raise UnanswerableError(f"A tokenizer can't be loaded: {error}.") from None


def _ask(url: str, token_env: str | None, question: Question) -> dict[str, Any]:
    """What a running balancer answers."""
    headers = {"Content-Type": "application/json"}
    if token_env is not None:
        token = os.environ.get(token_env)
        if not token:
            raise UnanswerableError(f"The environment variable {token_env} is not set, or empty.")
        headers["Authorization"] = f"Bearer {token}"
    status, body = _post(url, headers, _message(question))
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if status == 200 and isinstance(answer, dict) and "backends" in answer:
        return answer
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        raise UnanswerableError(f"{url} answered {status}, and not as an admin port of gpubalancer.")
    hint = " Name the environment variable that holds the token with --token-env." if status == 401 else ""
    raise UnanswerableError(_refused(str(error.get("message")), status, str(error.get("code"))) + hint)


def _message(question: Question) -> bytes:
    route = find_route(urlsplit(question.path).path) or CLAIMED
    try:
        # On its way the body is parsed once more, which would hide a key that is given twice.
        if route.content == "json":
            read_document(question.body, route)
    except RequestError as error:
        raise UnanswerableError(_refused(error.message, error.status, error.code)) from None
    return write_question(question)


def _post(url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    try:
        target = urlsplit(url)
        host, port = target.hostname, target.port
    except ValueError:
        host = port = None
    if not host or target.scheme not in ("http", "https"):
        raise UnanswerableError(f"--admin {url!r} is no URL such as http://127.0.0.1:8081.")
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=DEADLINE_S)
    try:
        connection.request("POST", target.path.rstrip("/") + EXPLAIN_PATH, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException:
        raise UnanswerableError(f"What listens at {url} speaks no HTTP.") from None
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise UnanswerableError(f"The admin port at {url} can't be asked: {why}.") from None
    finally:
        connection.close()


def _refused(message: str, status: int, code: str) -> str:
    """One sentence: what is wrong, and where it is the request itself, what its client would get."""
    return message if code == "malformed_request" else f"{message.rstrip('.')} ({status} {code})."
