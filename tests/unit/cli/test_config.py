"""Configuration: read from file and environment, written for its owner only."""

from pathlib import Path

import pytest

from fairlead_cli.config import Context, check_server, check_token, config_file, load, save, write_private
from fairlead_cli.errors import ConfigInvalid, NotLoggedIn
from tests.unit.cli.scripted_relay import SERVER, TOKEN

OTHER = "flt_other_secret"


def stored(folder: Path) -> dict[str, str]:
    """Store a context, and return the environment that finds it."""
    file = folder / "deep" / "config.yaml"
    save(file, Context(SERVER, TOKEN, "acme", "/ca.pem"))
    return {"FAIRLEAD_CONFIG": str(file)}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """In a file that nobody else can read, in a folder nobody else can open."""
    environment = stored(tmp_path)
    file = Path(environment["FAIRLEAD_CONFIG"])
    assert load(environment) == Context(SERVER, TOKEN, "acme", "/ca.pem")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["config.yaml"]


def test_environment_comes_first(tmp_path: Path) -> None:
    """In CI there is no file; the organization is asked of the relay then."""
    given = {"FAIRLEAD_SERVER": SERVER + "/", "FAIRLEAD_TOKEN": f"{OTHER}\n", "FAIRLEAD_CA_FILE": "/x.pem"}
    nothing = {"FAIRLEAD_CONFIG": str(tmp_path / "none")}
    assert load(given | nothing) == Context(SERVER, OTHER, "", "/x.pem")
    assert load(stored(tmp_path) | {"FAIRLEAD_TOKEN": OTHER}) == Context(SERVER, OTHER, "", "/ca.pem")


def test_a_stored_token_is_not_sent_to_another_server(tmp_path: Path) -> None:
    """FAIRLEAD_SERVER alone must not carry the token of one relay to another."""
    with pytest.raises(NotLoggedIn, match=r"no token for https://other\.example"):
        load(stored(tmp_path) | {"FAIRLEAD_SERVER": "https://other.example"})
    other = {"FAIRLEAD_SERVER": "https://other.example", "FAIRLEAD_TOKEN": OTHER}
    assert load(stored(tmp_path) | other) == Context("https://other.example", OTHER)


def test_nothing_stored_is_said(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(NotLoggedIn, match="no relay is named"):
        load({"FAIRLEAD_CONFIG": str(tmp_path / "none")})


@pytest.mark.parametrize("text", ["[", "a: 1", "contexts: 3\ncurrent: x", "- x", f"contexts: {{x: [{TOKEN}\n"])
def test_a_broken_file_is_named_and_not_repeated(text: str, tmp_path: Path) -> None:
    """Its text may be the token."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigInvalid, match="is no configuration of fairlead") as caught:
        load({"FAIRLEAD_CONFIG": str(file)})
    assert TOKEN not in str(caught.value)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A folder in its place, for example."""
    with pytest.raises(ConfigInvalid, match="cannot be read: Is a directory"):
        load({"FAIRLEAD_CONFIG": str(tmp_path)})


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """And what was there before is still there."""
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(ConfigInvalid, match="cannot be written: Is a directory"):
        save(tmp_path / "config.yaml", Context(SERVER, TOKEN))
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_private_files_are_replaced_at_once(tmp_path: Path) -> None:
    """A wide mode of the old file does not survive."""
    file = tmp_path / "x"
    file.write_text("old")
    file.chmod(0o666)
    write_private(file, "new")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o600)


@pytest.mark.parametrize("server", ["https://r:7443", "http://127.0.0.1:1", "http://localhost", "http://[::1]:80/"])
def test_servers_that_are_safe(server: str) -> None:
    """TLS anywhere, clear text on this machine only."""
    assert check_server(server) == server.rstrip("/")


@pytest.mark.parametrize(
    "server",
    ["relay", "ftp://r", "http://relay.example", "https://r/path", "https://u:p@r", "https://r?x=1", "https://"],
)
def test_servers_that_are_not(server: str) -> None:
    """A token in clear over a network is lost."""
    with pytest.raises(ConfigInvalid):
        check_server(server)


@pytest.mark.parametrize("token", ["", "hello", "flt_x", "flt_a_b\nX-Header: y", "fle1_a_b_c"])
def test_what_is_no_token_is_not_sent_and_not_repeated(token: str) -> None:
    """A password pasted by mistake must not end up in an error."""
    with pytest.raises(ConfigInvalid) as caught:
        check_token(token)
    assert not token or token not in str(caught.value)


def test_tokens_are_not_in_a_contexts_repr() -> None:
    """Nor in any log that prints one."""
    assert TOKEN not in repr(Context(SERVER, TOKEN))


def test_default_file_is_below_home() -> None:
    """Where the documentation says."""
    assert config_file({}) == Path("~/.config/fairlead/config.yaml").expanduser()
