"""Configuration: read from file and environment, written for its owner only."""

from pathlib import Path

import pytest

from fairlead_cli.config import (
    Context,
    Stored,
    check_context_name,
    check_server,
    check_token,
    config_file,
    load,
    name_for,
    read_stored,
    save,
    write_private,
    write_stored,
)
from fairlead_cli.errors import ConfigInvalid, ContextUnknown, NotLoggedIn
from tests.unit.cli.scripted_relay import SERVER, TOKEN

OTHER = "flt_other_secret"


def stored(folder: Path) -> dict[str, str]:
    """Store a context, and return the environment that finds it."""
    file = folder / "deep" / "config.yaml"
    save(file, Context(SERVER, TOKEN, "acme", "/ca.pem"), "default")
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


def test_the_file_of_the_first_release_is_read(tmp_path: Path) -> None:
    """It held one context, and has the same form."""
    file = tmp_path / "config.yaml"
    file.write_text(
        f"current: default\ncontexts:\n  default: {{server: {SERVER}, organization: acme, token: {TOKEN}}}\n"
    )
    assert read_stored(file) == Stored("default", {"default": Context(SERVER, TOKEN, "acme")})


def test_several_relays_are_kept_apart(tmp_path: Path) -> None:
    """The last login is current; FAIRLEAD_CONTEXT chooses another, each with its own token."""
    environment = stored(tmp_path)
    save(Path(environment["FAIRLEAD_CONFIG"]), Context("https://other.example", OTHER, "umbrella"), "other")
    assert load(environment) == Context("https://other.example", OTHER, "umbrella")
    assert load(environment | {"FAIRLEAD_CONTEXT": "default"}) == Context(SERVER, TOKEN, "acme", "/ca.pem")
    with pytest.raises(ContextUnknown, match="no context is named 'x'; there are default, other") as caught:
        load(environment | {"FAIRLEAD_CONTEXT": "x"})
    assert caught.value.exit_code == 4


def test_contexts_are_chosen_renamed_and_forgotten() -> None:
    """What is current stays current under its new name, and nothing is when it is gone."""
    one, two = Context("https://one", TOKEN), Context("https://two", TOKEN)
    both = Stored().with_context("one", one).with_context("two", two)
    assert both.current == "two"
    assert both.using("one").current == "one"
    assert both.renamed("two", "second") == Stored("second", {"one": one, "second": two})
    assert both.without("two") == Stored("", {"one": one})
    assert both.without("one").current == "two"
    with pytest.raises(ConfigInvalid, match="one: there is a context of this name already"):
        both.renamed("two", "one")
    for change in (both.using, both.without, both.named):
        with pytest.raises(ContextUnknown):
            change("x")


def test_no_current_context_is_said(tmp_path: Path) -> None:
    """Nobody wants to deploy to whichever relay is left."""
    file = tmp_path / "config.yaml"
    write_stored(file, Stored("", {"one": Context(SERVER, TOKEN)}))
    with pytest.raises(NotLoggedIn, match="no context is current; 'fairlead context use NAME'"):
        load({"FAIRLEAD_CONFIG": str(file)})


def test_a_login_is_named_after_its_relay(tmp_path: Path) -> None:
    """The first is the default; a second login to the same relay replaces the first."""
    file = tmp_path / "config.yaml"
    names = []
    for server in (SERVER, "https://b.example:1", "https://b.example:2", "https://b.example:1", "https://[::1]"):
        names.append(name_for(file, server))
        save(file, Context(server, TOKEN), names[-1])
    assert names == ["default", "b-example", "b-example-2", "b-example", "1"]
    file.write_text("[")
    assert name_for(file, SERVER) == "default"


@pytest.mark.parametrize("name", ["", "-a", "a/b", "a b", "x" * 64])
def test_names_that_a_context_may_not_have(name: str) -> None:
    """They are typed on command lines."""
    with pytest.raises(ConfigInvalid, match="is no name for one"):
        check_context_name(name)
    assert check_context_name("Prod.eu_1-a") == "Prod.eu_1-a"


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
        save(tmp_path / "config.yaml", Context(SERVER, TOKEN), "default")
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
