"""Single values: what is taken, what is refused, and with which words."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gpubalancer.policy import fields
from gpubalancer.policy.fields import LATER, OneOrMany, Part


class Sample(Part):
    """One field of each sort that needs a model around it."""

    size: fields.Positive = 1
    secret: fields.Secret = None
    path: fields.FilePath = Path("x")
    many: Annotated[tuple[fields.Name, ...], OneOrMany()] | None = None


def test_a_key_without_a_value_is_absent() -> None:
    """Null leaves the default."""
    assert Sample.model_validate({"size": None}) == Sample()


def test_an_unknown_key_is_refused_with_null_too() -> None:
    """A misspelt key is not let through because it has no value."""
    with pytest.raises(ValueError, match="extra_forbidden"):
        Sample.model_validate({"sise": None})


def test_parts_cannot_be_changed() -> None:
    """A policy that is in force stays as it is."""
    with pytest.raises(ValueError, match="frozen"):
        Sample().size = 2


@pytest.mark.parametrize(("given", "read"), [(1, 1), ("64", 64), (65_535, 65_535)])
def test_whole_numbers(given: object, read: int) -> None:
    """Digits in quotes are taken, because references to the environment stand in quotes."""
    assert fields.whole(0, 65_535).read(given) == read


@pytest.mark.parametrize("given", [True, 1.0, "1.0", -1, 65_536, "many", None, [], "\uff19", "1" * 40])
def test_what_is_no_whole_number(given: object) -> None:
    """Nothing else is coerced, and the bounds are in the message."""
    with pytest.raises(ValueError, match="a whole number from 0 to 65535"):
        fields.whole(0, 65_535).read(given)


@pytest.mark.parametrize(("given", "read"), [(1, 1.0), (0.5, 0.5), ("0.5", 0.5)])
def test_numbers(given: object, read: float) -> None:
    """Numbers are floats, in quotes too."""
    assert fields.number().read(given) == read


@pytest.mark.parametrize("given", [True, "nan", float("nan"), float("inf"), "inf", -0.1, None, "x", {}])
def test_what_is_no_number(given: object) -> None:
    """Neither truth values nor what is not finite are numbers."""
    with pytest.raises(ValueError, match="a number of at least 0"):
        fields.number().read(given)


def test_zero_is_refused_where_it_means_nothing() -> None:
    """A share of zero and a timeout of zero would stop everything."""
    for reading, zero in ((fields.number(above_zero=True), 0), (fields.duration(), "0s"), (fields.size(1), 0)):
        with pytest.raises(ValueError, match=r"above (0|zero)|at least 1B"):
            reading.read(zero)


def test_a_number_where_text_belongs_is_told_to_be_quoted() -> None:
    """YAML takes a name of digits for a number."""
    with pytest.raises(ValueError, match='put it in quotes: "70"'):
        fields.MODEL.read(70)


@pytest.mark.parametrize("name", ["a", "h100-a", "10.0.0.1:80", "[::1]:80", "a_b@c.d"])
def test_names(name: str) -> None:
    """Names may look like addresses."""
    assert fields.NAME.read(name) == name


@pytest.mark.parametrize("name", ["", "..", "a b", "a/b", "a\n", "é", "a" * 261, "a%20", "a?b", 'a"', None, True])
def test_what_is_no_name(name: object) -> None:
    """Names stand in headers, metrics and paths of the admin API, so they hold nothing that these give a meaning."""
    with pytest.raises(ValueError, match="a name of letters"):
        fields.NAME.read(name)


@pytest.mark.parametrize("name", ["meta/llama-3.1-8b", "llama3:8b", "gpt-4o", "modèle"])
def test_model_names(name: str) -> None:
    """Slashes and colons are usual."""
    assert fields.MODEL.read(name) == name


@pytest.mark.parametrize("name", ["", "a b", "llama-*", "a\t", "'a'", 7, None])
def test_what_is_no_model_name(name: object) -> None:
    """A pattern is no name."""
    with pytest.raises(ValueError, match="a model's name"):
        fields.MODEL.read(name)


def test_secrets_are_hidden_and_empty_ones_are_none() -> None:
    """Nothing of a secret is in the repr or an ordinary dump."""
    sample = Sample.model_validate({"secret": "hush-hush"})
    assert sample.secret == SecretStr("hush-hush")
    assert "hush" not in repr(sample) + sample.model_dump_json() + str(sample.model_dump())
    assert "hush-hush" in sample.model_dump_json(context={"reveal": True})
    assert Sample.model_validate({"secret": ""}).secret is None


@pytest.mark.parametrize("secret", ["a b", "a\r\nx: y", "ключ", 5, ["a"]])
def test_what_is_no_secret(secret: object) -> None:
    """A secret goes into a header line, so it can't break one."""
    with pytest.raises(ValueError, match="a secret in quotes"):
        fields.SECRET.read(secret)


def test_relative_paths_start_at_the_folder() -> None:
    """The context says which folder; an absolute path stays."""
    context = {"folder": Path("/etc/x")}
    assert Sample.model_validate({"path": "tls/a.pem"}, context=context).path == Path("/etc/x/tls/a.pem")
    assert Sample.model_validate({"path": "/tls/a.pem"}, context=context).path == Path("/tls/a.pem")
    assert Sample.model_validate({"path": "a.pem"}).path == Path("a.pem")


@pytest.mark.parametrize("path", ["", " ", "a\nb", 5, None])
def test_what_is_no_path(path: object) -> None:
    """Empty text is no path, and null leaves the default."""
    if path is None:
        assert Sample.model_validate({"path": path}).path == Path("x")
        return
    with pytest.raises(ValueError, match="a path"):
        Sample.model_validate({"path": path})


def test_one_value_stands_for_a_list_of_one() -> None:
    """`kind: gpu` is `kind: [gpu]`."""
    assert Sample.model_validate({"many": "a"}).many == ("a",)
    assert Sample.model_validate({"many": ["a", "b"]}).many == ("a", "b")


def test_later_marks_a_description() -> None:
    """What nothing acts on yet says so."""
    assert fields.later("Does.") == f"Does. {LATER}"


_ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers(), max_size=2)
)
_READINGS = (
    *(fields.NAME, fields.MODEL, fields.MODEL_PATTERN, fields.TITLE, fields.SECRET),
    *(fields.whole(0), fields.number(), fields.duration(), fields.size(1), fields.count(0)),
)


@given(_ANYTHING)
def test_readings_read_or_refuse_anything(value: Any) -> None:
    """No value raises anything but ValueError, and what was read is read again from what is written."""
    for reading in _READINGS:
        try:
            read = reading.read(value)
        except ValueError:
            continue
        assert read is None or reading.read(reading.write(read)) == read
