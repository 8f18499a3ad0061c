"""The table of contestants: found or not, configured without gaps."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.peers import CONFIGS, CONTESTANTS, OURS, Contestant
from bench.placement_peers import LEAST, baseline, ours
from bench.running import run_values

ROWS = {row.name: row for row in CONTESTANTS}


@pytest.mark.parametrize("name", ROWS)
def test_every_name_in_a_row_has_a_value(name: str, tmp_path: Path) -> None:
    """Command and configuration of each row are filled in from what a run gives."""
    values = run_values([45011, 45012])
    command = ROWS[name].command(Path("program"), values, tmp_path)
    texts = [*command, *(path.read_text() for path in tmp_path.iterdir())]
    assert command[0] == "program"
    assert not [text for text in texts if "$" in text]
    assert any(values["port"] in text for text in texts)
    assert any("45011" in text for text in texts)
    assert any("45012" in text for text in texts)


@pytest.mark.parametrize("name", [row.name for row in CONTESTANTS if row.config.endswith(".yaml")])
def test_yaml_stays_yaml(name: str, tmp_path: Path) -> None:
    """A filled-in configuration still parses."""
    ROWS[name].command(Path("program"), run_values([45011, 45012]), tmp_path)
    assert isinstance(yaml.safe_load((tmp_path / ROWS[name].config).read_text()), dict)


def test_every_config_belongs_to_a_row() -> None:
    """No file lies about that nobody starts."""
    rows = (*CONTESTANTS, ours(), baseline(LEAST))
    assert {path.name for path in CONFIGS.iterdir()} == {row.config for row in rows if row.config}


def test_our_configuration_holds_the_keys_hash_and_never_the_key(tmp_path: Path) -> None:
    """As in any real policy file."""
    values = run_values([45011, 45012])
    ROWS[OURS].command(Path("program"), values, tmp_path)
    text = (tmp_path / ROWS[OURS].config).read_text()
    assert f"sha256:{values['key_sha256']}" in text
    assert values["key"] not in text


def test_program_is_looked_for_in_its_environment_then_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DIR/NAME/bin first, then PATH, then it is missing."""
    row = Contestant("peer", "peerd", (), "")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert row.find(tmp_path) is None
    for folder in ("path", "peer/bin"):
        program = tmp_path / folder / "peerd"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\necho peerd 1.2\n")
        program.chmod(0o755)
        assert row.find(tmp_path) == program


def test_version_is_the_first_line_or_what_went_wrong(tmp_path: Path) -> None:
    """A program that fails to say it does not end the run."""
    program = tmp_path / "peerd"
    row = Contestant("peer", "peerd", (), "")
    assert "peerd" in row.version_text(program)
    program.write_text('#!/bin/sh\necho; echo "$0 1.2"; echo more\n')
    program.chmod(0o755)
    assert row.version_text(program) == "peerd 1.2"


def test_version_of_a_wheel_comes_from_its_own_python() -> None:
    """Many launchers have no --version; the wheel beside them has."""
    row = Contestant("peer", "pytest", (), "", distribution="pytest")
    assert row.version_text(Path(sys.executable)) == f"pytest {pytest.__version__}"


def test_installer_is_a_valid_script_and_knows_every_wheel() -> None:
    """Each row that is a wheel is installed into the folder it is looked for in."""
    script = CONFIGS.parent / "install_peers.sh"
    subprocess.run(["sh", "-n", script], check=True)
    for row in CONTESTANTS:
        if row.distribution and row.name != OURS:
            assert f"install_wheel {row.name} " in script.read_text()
