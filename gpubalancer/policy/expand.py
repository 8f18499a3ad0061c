"""`${NAME}`, `${NAME:-default}` and `file:PATH` in a value of the policy file.

`${NAME}` is the environment's value and must exist; with `:-` the default stands in when it is missing or empty, as in
a shell. `$${` is a plain `${`. What the environment gives is not expanded again. A value that then is `file:PATH` is
the content of that file without the newlines at its end, which is how containers hand over secrets.
"""

import re
from collections.abc import Mapping
from pathlib import Path

MAX_SECRET_BYTES = 64 << 10

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ExpansionError(ValueError):
    """A reference that cannot be followed. The text is what was expected; `found` names what was found."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(expected)
        self.found = found


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`text` with its references to the environment replaced."""

    def replaced(reference: re.Match[str]) -> str:
        if reference[1] is None:
            return "${"
        name, has_default, default = reference[1].partition(":-")
        if not reference[0].endswith("}") or not _NAME.fullmatch(name):
            raise ExpansionError(f"{reference[0][:40]!r}", "${NAME} or ${NAME:-default} (write $${ for a plain ${)")
        if has_default:
            return environ.get(name) or default
        if name not in environ:
            raise ExpansionError(
                f"${{{name}}}, which is not set", f"{name} in the environment, or ${{{name}:-default}}"
            )
        return environ[name]

    return _REFERENCE.sub(replaced, text)


def read_secret(value: str, folder: Path) -> str:
    """The content of the file that `file:PATH` names, relative to `folder`, without the newlines at its end."""
    name = value.removeprefix("file:")
    expected = "a secret file that can be read"
    try:
        with (folder / name).open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        if len(content) > MAX_SECRET_BYTES:
            raise ExpansionError(f"file:{name!r} with more than 64 KiB", expected)
        return content.decode().rstrip("\r\n")
    except OSError as error:
        raise ExpansionError(f"file:{name!r}: {error.strerror}", expected) from None
    except UnicodeDecodeError:
        raise ExpansionError(f"file:{name!r}, which is not UTF-8", expected) from None
