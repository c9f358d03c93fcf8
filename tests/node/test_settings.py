"""The configuration file: closed, typed, and wrong ones are refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from node import configuration
from node.configuration import load_settings
from node.errors import ConfigError
from node.settings import DimseDestination, FolderDestination, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

PASSWORD = "hunter2"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write a configuration file, in a folder that is not the working one."""
    monkeypatch.delenv(configuration.CONFIG_VARIABLE, raising=False)

    def write_it(text: str, name: str = "site/radnode.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write_it


def refusal(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        load_settings(path)
    return raised.value


# --- what is refused -------------------------------------------------------------------------

WRONG = {
    'dta = "x"': "dta: there is no such key",
    "[listen]\nprot = 104": "listen.prot: there is no such key",
    '[listen]\nae_title = "A_TITLE_OF_22_LETTERS_"': "listen.ae_title: String should have at most",
    '[listen]\nae_title = "BACK\\\\SLASH"': "listen.ae_title: String should match",
    '[listen]\nae_title = ""': "listen.ae_title: String should have at least 1",
    "[listen]\nport = 70000": "listen.port: Input should be less than or equal to 65535",
    '[listen]\naccept_from = { CT1 = "10.0.0.300" }': "listen.accept_from: '10.0.0.300'",
    'database = "mysql://h/x"': 'database: must be "sqlite" or a postgresql:// address',
    'broker = "amqp://h"': 'broker: must be "embedded" or a redis://',
    '[destinations.pacs]\nkind = "dimze"': "destinations.pacs: Input tag 'dimze'",
    '[destinations.pacs]\nkind = "dimse"\nhost = "h"\nport = 104': "ae_title: Field required",
    '[[routes]]\nrun = ["a"]\nsend_to = ["pacs"]': "routes[1].send_to names pacs",
    '[[routes]]\nrun = ["a"]\nmatch = { Modalty = "CT" }': "has the keyword Modalty",
    '[[routes]]\nrun = ["a"]\nmatch = { Modality = [] }': "empty pattern of Modality",
    '[[routes]]\nrun = ["a"]\nmatch = { Modality = "" }': "empty pattern of Modality",
    '[[routes]]\nmatch = { Modality = "CT" }': "routes[1].run: Field required",
    '[[routes]]\nrun = ["a"]\npriority = "urgent"': "routes[1].priority",
    '[[routes]]\nname = "x"\nrun = ["a"]\n[[routes]]\nname = "x"\nrun = ["b"]': "are called 'x'",
    "[complete.modality.ct]\nseries_s = 1": "complete.modality.ct",
    "listen = [": "is not TOML",
}


@pytest.mark.parametrize(("text", "what"), WRONG.items(), ids=WRONG.values())
def test_a_wrong_file_is_refused_with_the_place_and_what_to_do(
    write: Callable[[str], Path], text: str, what: str
) -> None:
    path = write(text)
    error = refusal(path)
    assert str(path) in error.what
    assert what in error.what
    assert error.do.startswith("Mend")
    assert "\n" not in error.what + error.do


def test_bytes_that_are_no_text_are_refused(write: Callable[[str], Path]) -> None:
    path = write("")
    path.write_bytes(b'data = "\xff"')
    assert "is not TOML" in refusal(path).what


def test_all_that_is_wrong_is_told_at_once(write: Callable[[str], Path]) -> None:
    what = refusal(write("dta = 1\n[listen]\nport = 0")).what
    assert "dta" in what
    assert "listen.port" in what


@pytest.mark.parametrize(
    "text",
    [
        f'database = "mysql://user:{PASSWORD}@host/name"',
        f'database = "postgresql://user:{PASSWORD}@host:port/name"',
        f'database = "postgresql://user:x/{PASSWORD}@host/name"',
        f'broker = "amqp://user:{PASSWORD}@host"',
        f'database = "postgresql://user:{PASSWORD}@host/name"\nbroker = 3\nroutes = 1',
        f'database = "postgresql://user:{PASSWORD}@host/name"\n[[routes]]\nrun=["a"]\nsend_to=["b"]',
    ],
)
def test_a_password_is_in_no_text_of_the_error(write: Callable[[str], Path], text: str) -> None:
    error: BaseException | None = refusal(write(text))
    while error is not None:
        assert PASSWORD not in str(error)
        error = error.__cause__ or error.__context__


def test_a_setting_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().data = Path("elsewhere")  # type: ignore[misc]


# --- where it is looked for ------------------------------------------------------------------


def test_the_named_file_goes_before_the_environment_the_folder_and_the_defaults(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def title(named: Path | None = None) -> str:
        return load_settings(named).listen.ae_title

    monkeypatch.setattr(configuration, "SEARCH_PATH", (Path("radnode.toml"), tmp_path / "etc.toml"))
    monkeypatch.chdir(tmp_path)
    assert title() == "RADNODE"
    write('listen.ae_title = "ETC"', "etc.toml")
    assert title() == "ETC"
    write('listen.ae_title = "FOLDER"', "radnode.toml")
    assert title() == "FOLDER"
    environment = write('listen.ae_title = "ENVIRONMENT"')
    monkeypatch.setenv(configuration.CONFIG_VARIABLE, str(environment))
    assert title() == "ENVIRONMENT"
    assert title(write('listen.ae_title = "NAMED"', "named.toml")) == "NAMED"


def test_the_search_ends_in_the_systems_own_folder() -> None:
    assert Path("/etc/radnode/radnode.toml") == configuration.SEARCH_PATH[-1]


def test_a_named_file_that_is_not_there_is_no_reason_to_use_defaults(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("")
    absent = tmp_path / "absent.toml"
    assert str(absent) in refusal(absent).what
    monkeypatch.setenv(configuration.CONFIG_VARIABLE, str(absent))
    with pytest.raises(ConfigError, match="absent"):
        load_settings()


def test_relative_folders_start_where_the_file_is(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir("/")
    text = 'data = "d"\n[destinations.out]\nkind = "folder"\npath = "results"'
    found = load_settings(write(text))
    assert found.data == tmp_path / "site" / "d"
    out = found.destination("out")
    assert isinstance(out, FolderDestination)
    assert out.path == tmp_path / "site" / "results"


def test_absolute_folders_stay(write: Callable[[str], Path]) -> None:
    text = 'data = "/srv/d"\n[destinations.out]\nkind = "folder"\npath = "/srv/results"'
    found = load_settings(write(text))
    assert found.data == Path("/srv/d")
    assert found.destination("out") == FolderDestination(kind="folder", path=Path("/srv/results"))


# --- what it says ----------------------------------------------------------------------------


def test_the_file_that_init_writes_says_what_the_defaults_are(tmp_path: Path) -> None:
    from node import cli

    shipped = Path(cli.__file__).parent.parent / "radnode.toml"
    path = tmp_path / "radnode.toml"
    path.write_bytes(shipped.read_bytes())
    default = Settings()
    assert load_settings(path) == default.model_copy(update={"data": tmp_path / default.data})


def test_every_example_in_the_shipped_file_is_allowed(tmp_path: Path) -> None:
    """Its commented lines, with the comment sign taken off, are a configuration as well."""
    from node import cli

    shipped = (Path(cli.__file__).parent.parent / "radnode.toml").read_text()
    lines = [
        line[1:] if line.startswith("#") and line[1:2] not in {" ", "", "#"} else line
        for line in shipped.splitlines()
        if not line.startswith(("accept_from", "blank"))
    ]
    path = tmp_path / "radnode.toml"
    path.write_text("\n".join(lines))
    found = load_settings(path)
    assert isinstance(found.destination("pacs"), DimseDestination)
    assert found.routes[0].send_to == ("pacs", "research")
    assert found.complete.series_quiet_s("MR") != found.complete.series_quiet_s("CT")


def test_an_unknown_destination_is_told_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"\[destinations\.pacs\].*none") as raised:
        Settings().destination("pacs")
    assert "'pacs'" in raised.value.what


def test_a_quiet_time_may_be_given_for_some_modalities_only(write: Callable[[str], Path]) -> None:
    text = "[complete]\nseries_s = 5\nstudy_s = 50\n[complete.modality.MR]\nseries_s = 100"
    complete = load_settings(write(text)).complete
    assert (complete.series_quiet_s("MR"), complete.study_quiet_s("MR")) == (100, 50)
    assert (complete.series_quiet_s("CT"), complete.study_quiet_s("CT")) == (5, 50)


def test_a_caller_has_its_addresses_and_an_unknown_one_none(write: Callable[[str], Path]) -> None:
    text = '[listen]\naccept_from = { CT1 = "10.0.4.21", MR = ["10.0.5.0/24", "::1"] }'
    listen = load_settings(write(text)).listen
    assert [str(one) for one in listen.networks_of("CT1")] == ["10.0.4.21/32"]
    assert [str(one) for one in listen.networks_of("MR")] == ["10.0.5.0/24", "::1/128"]
    assert listen.networks_of("OTHER") == ()


def test_postgresql_is_reached_by_the_driver_that_is_installed(
    write: Callable[[str], Path],
) -> None:
    found = load_settings(write('database = "postgresql://u:p%40ss@h:5433/n"'))
    assert found.database_url == "postgresql+psycopg://u:p%40ss@h:5433/n"
