"""What the documentation says, compared with what is there: commands, options, files, links, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import click
import pytest
import yaml

from fairlead_agent.__main__ import EXIT_FAILED, EXIT_REFUSED, EXIT_USAGE
from fairlead_agent.__main__ import cli as agent_command
from fairlead_agent.settings import Settings as AgentSettings
from fairlead_agent.settings import variable_of
from fairlead_cli.__main__ import fairlead as fairlead_command
from fairlead_cli.errors import ExitCode
from fairlead_cli.terminal import Format
from fairlead_relay.commands.root import cli as relay_command
from fairlead_relay.settings import Settings as RelaySettings
from fairlead_relay.settings_sources import CONFIG_FILE
from tests.cluster.__main__ import commands as cluster_command
from tests.e2e.engine_world import APPLICATION_RULES
from tests.repository.checkout import ROOT, listed, tracked
from tests.repository.pages import Block, Command, anchors, blocks, commands, inline_code, links, pages, table_column

CLI_PAGE: Final = ROOT / "docs" / "cli.md"
OPERATE_PAGE: Final = ROOT / "docs" / "operate.md"
ENGINE_PAGE: Final = ROOT / "docs" / "deploy-engine.md"

OURS: Final[dict[str, click.Command]] = {
    "fairlead": fairlead_command,
    "fairlead-relay": relay_command,
    "fairlead-agent": agent_command,
    "python -m tests.cluster": cluster_command,
}

OTHERS: Final = {
    "bash",
    "buildah",
    "cat",
    "cp",
    "docker",
    "export",
    "grep",
    "helm",
    "kubectl",
    "mktemp",
    "pip",
    "sort",
    "source",
    "tar",
    "uv",
}
"""Programs of others that pages use; `make` and `python` are looked into."""

CARRIERS: Final = {"kubectl"}
"""Programs that run one of ours elsewhere, after `--`."""

MAKE_VARIABLES: Final = {"DEMO_CONTEXT", "DEMO_REGISTRY", "CI"}
"""Variables that targets read but the Makefile does not name."""


def all_blocks() -> list[Block]:
    """List the blocks of all pages."""
    return [block for page in pages() for block in blocks(page)]


def all_commands() -> list[Command]:
    """List the commands of all pages, also those that another program runs inside a pod."""
    return [inner for block in all_blocks() for command in commands(block) for inner in with_inner(command)]


def with_inner(command: Command) -> Iterator[Command]:
    """Yield a command, and the one that it runs elsewhere."""
    yield command
    if command.words[0] in CARRIERS and "--" in command.words:
        yield Command(command.place, command.words[command.words.index("--") + 1 :])


def split(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Split a command into the name of a program in OURS, else the first word, and its arguments."""
    if words[:3] == ("python", "-m", "tests.cluster"):
        return "python -m tests.cluster", words[3:]
    return words[0], words[1:]


def complaint(command: click.Command, arguments: tuple[str, ...], *, is_whole: bool = True) -> str:
    """
    Say what is wrong with the arguments of one of our commands, without running it.

    Args:
        command: The program, or a group or command in it.
        arguments: The words after its name.
        is_whole: Whether what the command requires must be there; prose names commands without it.
    Returns: One sentence; empty if click would accept them.
    """
    context = click.Context(command, info_name=command.name)
    try:
        given, rest, _ = command.make_parser(context).parse_args(list(arguments))
        for parameter in command.params:
            value = given.get(parameter.name or "")
            is_flag = isinstance(parameter, click.Option) and parameter.is_flag
            # A file of an example need not be there; an identifier may be a shell's variable.
            if (
                isinstance(value, str)
                and not is_flag
                and not isinstance(parameter.type, click.Path)
                and "$" not in value
            ):
                parameter.type_cast_value(context, value)
            if is_whole and parameter.required and not value:
                return f"{command.name} wants {parameter.human_readable_name}"
    except click.UsageError as error:
        return error.format_message()
    if isinstance(command, click.Group):
        if not rest:
            return "" if given or not is_whole else f"{command.name} wants a command"
        found = command.get_command(context, rest[0])
        return complaint(found, tuple(rest[1:]), is_whole=is_whole) if found else f"{command.name} has no {rest[0]}"
    return f"{command.name} does not take {' '.join(rest)}" if rest else ""


def leaves(command: click.Command, *names: str) -> Iterator[tuple[str, ...]]:
    """Yield the names of every command that does something."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from leaves(found, *names, name)
    else:
        yield names


def test_every_command_in_a_block_exists() -> None:
    """Program, subcommand, options, values and required arguments; a make target and its variables."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    variables = {*re.findall(r"\$[({]([A-Z_]+)", (ROOT / "Makefile").read_text()), *MAKE_VARIABLES}
    wrong: set[str] = set()
    found = all_commands()
    for command in found:
        program, arguments = split(command.words)
        if program in OURS:
            if reason := complaint(OURS[program], arguments):
                wrong.add(f"{command.place}: {command.text}: {reason}")
        elif program == "make":
            names = {word.partition("=")[0] for word in arguments if "=" in word}
            unknown = {word for word in arguments if "=" not in word} - targets | names - variables
            wrong |= {f"{command.place}: make knows no {word}" for word in unknown}
        elif program not in OTHERS:
            wrong.add(f"{command.place}: what is {program}?")
    assert not wrong, listed("write commands that exist", wrong)
    assert {split(command.words)[0] for command in found} >= {"fairlead", "fairlead-relay", "make", "helm"}


def test_every_command_named_in_prose_exists() -> None:
    """In backticks a command may lack its arguments, never be one that is gone."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong: set[str] = set()
    for page in pages():
        for code in inline_code(page):
            # `cluster disable|enable` names two commands.
            for words in product(*(word.split("|") for word in code.split() if word != "…" and not word.isupper())):
                program, arguments = split(words) if words else ("", ())
                if program in OURS and (reason := complaint(OURS[program], arguments, is_whole=False)):
                    wrong.add(f"{page.relative_to(ROOT)}: `{code}`: {reason}")
                elif program == "make" and not {word for word in arguments if "=" not in word} <= targets:
                    wrong.add(f"{page.relative_to(ROOT)}: `{code}`: no such target")
    assert not wrong, listed("name commands that exist", wrong)


@pytest.mark.parametrize(
    "words",
    [
        "fairlead depoy",
        "fairlead deploy -f k8s --environment shop/staging",
        "fairlead deploy -f k8s",
        "fairlead status shop",
        "fairlead status shop/staging --timeout soon",
        "fairlead cluster list -o xml",
        "fairlead app create shop bakery",
        "fairlead cluster",
        "fairlead-relay serve --data-directory x",
        "python -m tests.cluster start",
    ],
)
def test_a_wrong_command_would_be_found(words: str) -> None:
    """Each of these is wrong in another way."""
    program, arguments = split(tuple(words.split()))
    assert complaint(OURS[program], arguments)


def test_every_file_that_a_page_names_is_there() -> None:
    """In backticks or in a command, a path that begins with one of the checkout's folders exists."""
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if path.parent != ROOT}
    files = {str(path.relative_to(ROOT)) for path in tracked()}
    known = files | {str(parent) for name in files for parent in Path(name).parents}
    missing: set[str] = set()
    for page in pages():
        for word in [
            *inline_code(page),
            *(word for block in blocks(page) for one in commands(block) for word in one.words),
        ]:
            if "/" not in word or word.partition("/")[0] not in folders or re.search(r"[<>${\s]", word.split("{")[0]):
                continue
            missing |= {
                f"{page.relative_to(ROOT)}: {name}"
                for name in alternatives(word)
                if "$" not in name and name.rstrip("/") not in known and not is_below(page, name)
            }
    assert not missing, listed("name files that exist", missing)


def alternatives(path: str) -> list[str]:
    """Expand `a/{b,c}.py` as a shell would."""
    match = re.fullmatch(r"([^{}]*)\{([^{}]*)\}([^{}]*)", path)
    return [f"{match[1]}{one}{match[3]}" for one in match[2].split(",")] if match else [path]


def is_below(page: Path, name: str) -> bool:
    """Tell whether a path exists relative to a page, or to the package of the member that it begins with."""
    member, _, rest = name.partition("/")
    return (page.parent / name).exists() or (ROOT / member / "src" / f"fairlead_{member}" / rest).exists()


def test_every_link_leads_somewhere() -> None:
    """To a file of the checkout, and to a heading of it where one is named."""
    broken: set[str] = set()
    for page in pages():
        for target in links(page):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = unquote(target).partition("#")
            leads_to = (page.parent / name).resolve() if name else page
            if leads_to not in tracked() and not leads_to.is_dir():
                broken.add(f"{page.relative_to(ROOT)}: no {target}")
            elif anchor and anchor not in anchors(leads_to):
                broken.add(f"{page.relative_to(ROOT)}: {name or 'the page'} has no heading {anchor}")
    assert not broken, listed("link to what is there", broken)


def test_every_block_of_yaml_can_be_read() -> None:
    """Values for a chart say in their first line which file they are; test_docs of e2e has helm judge those."""
    found = [block for block in all_blocks() if block.language == "yaml"]
    for block in found:
        document: Any = yaml.safe_load(block.text)
        assert isinstance(document, dict), block.place
    assert {block.text.partition("\n")[0] for block in found} >= {"# relay.yaml", "# agent.yaml"}


def test_the_tour_of_the_readme_is_that_of_the_demo() -> None:
    """The demo's page is compared with what the demo really runs; the README shows a part of it, shortened."""

    def shown(page: Path) -> list[str]:
        return [one.text for block in blocks(page) if block.language == "console" for one in commands(block)]

    tour, demo = shown(ROOT / "README.md"), shown(ROOT / "docs" / "demo.md")
    assert tour
    assert [command for command in tour if not any(f"{whole} ".startswith(f"{command} ") for whole in demo)] == []


def test_the_page_of_the_command_shows_every_command() -> None:
    """And the tables of forms and exit codes are complete."""
    shown = {
        words
        for block in blocks(CLI_PAGE)
        for one in commands(block)
        for words in [one.words]
        if words[0] == "fairlead"
    }
    wanted = set(leaves(fairlead_command))
    assert {names for names in wanted if not any(words[1 : len(names) + 1] == names for words in shown)} == set()
    assert table_column(CLI_PAGE, "`-o`") == [str(form) for form in Format]
    assert table_column(CLI_PAGE, "Code") == [str(int(code)) for code in ExitCode]


def test_the_exit_codes_of_relay_and_agent_are_documented() -> None:
    """Of the agent its own; the relay's are click's."""
    assert table_column(OPERATE_PAGE, "Code") == [str(code) for code in (0, EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED)]


def test_every_line_of_a_log_that_a_page_names_is_written() -> None:
    """What an operator is told to look for is an event of relay or agent."""
    events = {event.strip() for cell in table_column(OPERATE_PAGE, "Look for") for event in cell.split(",")}
    sources = [path for member in ("agent", "relay") for path in (ROOT / member / "src").rglob("*.py")]
    written = "\n".join(path.read_text() for path in sources)
    assert events
    assert {event for event in events if f'"{event}"' not in written} == set()


def test_every_variable_that_a_page_names_is_read() -> None:
    """The settings of relay and agent, and what the command, the demo, make and the compose files look up."""
    named = {
        (str(page.relative_to(ROOT)), name)
        for page in pages()
        for name in re.findall(r"\b(?:FAIRLEAD|DEMO)_[A-Z_]*[A-Z]\b", page.read_text())
    }
    settings = {f"FAIRLEAD_RELAY_{name.upper()}" for name in RelaySettings.model_fields}
    settings |= {variable_of(name) for name in AgentSettings.model_fields} | {CONFIG_FILE}
    cli = "\n".join(path.read_text() for path in (ROOT / "cli" / "src").rglob("*.py"))
    others = [ROOT / "Makefile", *(ROOT / "tests" / "demo").glob("*.py"), *(ROOT / "deploy" / "compose").glob("*.yaml")]
    read = "\n".join([cli, *(path.read_text() for path in others)])
    unread = {f"{page}: {name}" for page, name in named if name not in settings and name not in read}
    assert not unread, listed("name variables that something reads", unread)
    assert set(re.findall(r'"(FAIRLEAD_[A-Z_]+|NO_COLOR)"', cli)) == set(table_column(CLI_PAGE, "Variable"))


def test_every_feature_of_the_engine_has_its_rights_and_a_test() -> None:
    """The tests that a row names exist, and a rule that it says is needed is in no default of the agent's chart."""
    values = yaml.safe_load((ROOT / "deploy" / "charts" / "fairlead-agent" / "values.yaml").read_text())
    granted = {right for rule in values["rights"] for right in _rights(rule)}
    assert {right for rule in APPLICATION_RULES for right in _rights(rule)} <= granted, (
        "tests grant more than the chart"
    )
    rows = [line for line in ENGINE_PAGE.read_text().splitlines() if "`test_" in line and line.startswith("| ")]
    assert len(rows) == len(table_column(ENGINE_PAGE, "Feature"))
    for row in rows:
        feature, by_default, with_values, proofs = (cell.strip() for cell in row.strip("|").split(" | "))
        named = re.findall(r"`(\w+\.py)::(\w+)`", proofs)
        assert named, feature
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / "e2e" / file).read_text(), f"{feature}: {file}::{test}"
        assert by_default.startswith(("yes", "needs ")), feature
        assert with_values.startswith(("yes", "the same")), feature
        for text in re.findall(r"`(- \{[^`]+)`", by_default):
            (rule,) = yaml.safe_load(text)
            assert set(_rights(rule)).isdisjoint(granted), feature


def _rights(rule: dict[str, list[str]]) -> Iterator[tuple[str, str, str]]:
    yield from product(rule["apiGroups"], rule["resources"], rule["verbs"])
