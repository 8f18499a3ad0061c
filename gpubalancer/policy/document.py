"""The settings as documents: a JSON Schema for editors, and docs/settings.md for people.

Both come from the schema's own fields, so that they cannot fall behind. `python -m gpubalancer.policy.document` writes
the latter to standard output; a test compares the file with it.
"""

import sys
from collections.abc import Iterator
from typing import Any

from gpubalancer.policy.schema import Policy
from gpubalancer.policy.settings import Setting, settings

_INTRODUCTION = """\
# Settings

One YAML file holds the policy; `gpubalancer check --config FILE` judges it, and `gpubalancer check --schema` prints its
JSON Schema for editors. This page is written by `python -m gpubalancer.policy.document`; a test compares.

* Unknown keys are refused. Every fault is told, with its line, what was found and what was expected.
* A key without a value is as if it were not there: its default holds.
* Durations are written `250ms`, `10s`, `5m`, `1h`, `1d`; sizes `64KiB`, `32MiB`, `1GiB` or plain bytes; counts `600`,
  `100k`, `2M`.
* `${NAME}` in a value is read from the environment and has to be there; `${NAME:-default}` has a default, also for an
  empty value; `$${` is a plain `${`. Between braces and brackets such values need quotes.
* A value `file:PATH` is the content of that file, without the newlines at its end.
* Relative paths start at the folder of the policy file.
* Paths below: `[]` is any item of a list, `*` any name. "required" is what has to be given; an empty default means that
  absence is told in the last column.
"""


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the file: what the policy file may hold, references to the environment included."""
    schema = Policy.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "gpubalancer policy"}


def settings_page() -> str:
    """The text of docs/settings.md."""
    return "\n".join([_INTRODUCTION, *_tables()])


def _tables() -> Iterator[str]:
    """One table of the scalars at the root, then one for each section."""
    sections = [setting for setting in settings().values() if "." not in setting.pattern]
    yield "## The file\n"
    yield from _table(sections)
    for section in sections:
        if section.part is None:
            continue
        yield f"## {section.pattern}\n"
        yield f"{section.meaning}\n"
        ways = (f"{section.pattern}.", f"{section.pattern}[]")
        yield from _table([setting for setting in settings().values() if setting.pattern.startswith(ways)])


def _table(rows: list[Setting]) -> Iterator[str]:
    yield "| setting | takes | default | means |"
    yield "|---|---|---|---|"
    for row in rows:
        default = "required" if row.default is None else f"`{row.default}`" if row.default else ""
        cells = (f"`{row.pattern}`", row.short, default, row.meaning)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(settings_page())
