"""YAML as Kubernetes' tools read it: values, lines, and what is refused."""

import json
import tracemalloc
from typing import Any

import pytest

from fairlead_cli.errors import ManifestInvalid
from fairlead_cli.yaml_documents import MAX_DEPTH, Block, read_documents


def only(text: str) -> Any:  # noqa: ANN401  (whatever YAML holds)
    """Read the one document of a text."""
    [(value, _)] = read_documents(text, "a.yaml")
    return value


def refusal(text: str) -> str:
    """Return the sentence a text is refused with."""
    with pytest.raises(ManifestInvalid) as caught:
        read_documents(text, "a.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ("80", 80),
        ("-3", -3),
        ("0644", 420),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("1e3", 1000),
        ("1.20", 1.2),
        ("12:30", "12:30"),
        ("2001-12-14", "2001-12-14"),
        ("80:8080", "80:8080"),
        ("on", True),
        ("yes", True),
        ("Off", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1.2.3", "1.2.3"),
        ("100m", "100m"),
        ("0b", "0b"),
        ("-", None),
        ("'80'", "80"),
        ('"on"', "on"),
        ("!!str 80", "80"),
        ("1e400", "1e400"),
        ("9" * 1000, "9" * 1000),
    ],
)
def test_scalars_mean_what_they_mean_to_kubectl(plain: str, value: object) -> None:
    """The same file must not deploy something else than `kubectl apply` would."""
    read = only(f"a: {plain}\n")["a"] if plain != "-" else only("- \n")[0]
    assert read == value
    assert type(read) is type(value)


def test_keys_that_are_no_strings_become_strings() -> None:
    """`on:`, `n:` and `80:` as keys reach the API server as strings, from kubectl as from here."""
    assert only("on: 1\n80: 2\nn: 3\n") == {"true": 1, "80": 2, "false": 3}


def test_each_mapping_knows_its_line() -> None:
    """Errors about a List's third item name that item."""
    items = only("kind: List\nitems:\n- a: 1\n- # second\n  b: 2\n")["items"]
    assert [item.line for item in items if isinstance(item, Block)] == [3, 5]


def test_documents_have_their_lines_and_empty_ones_are_left_out() -> None:
    """A file that begins or ends with `---` is common."""
    assert [line for _, line in read_documents("---\n---\na: 1\n---\n# none\n---\nb: 2\n", "a.yaml")] == [3, 7]


def test_merge_keys_fill_in_what_is_not_given() -> None:
    """Anchors and `<<` are in many people's files."""
    assert only("base: &b {p: 1, q: 2}\nc:\n  <<: *b\n  q: 3\n")["c"] == {"p": 1, "q": 3}


def test_an_alias_is_a_copy() -> None:
    """Changing one object must not change another."""
    value = only("a: &x {p: 1}\nb: *x\n")
    value["a"]["p"] = 2
    assert value["b"] == {"p": 1}


def test_aliases_of_aliases_are_copies_too() -> None:
    """A copy of a list of copies shares none of them, and each mapping knows the line of its anchor."""
    value = only("a: &x {p: 1}\nb: &y [*x, *x]\nc: *y\n")
    value["c"][0]["p"] = 2
    assert value["a"] == value["b"][0] == value["b"][1] == value["c"][1] == {"p": 1}
    assert value["c"][1].line == 1


def test_billion_laughs_are_refused_before_any_is_copied() -> None:
    """Nine aliases of nine aliases, nine deep, are counted and never made: they would fill the memory."""
    lines = ['a: &a ["lol","lol","lol","lol","lol","lol","lol","lol","lol"]']
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]")
    tracemalloc.start()
    try:
        assert "more than 2,000,000 values" in refusal("\n".join(lines))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000, "less than a byte for each value allowed"
    finally:
        tracemalloc.stop()


def test_aliases_nest_no_deeper_than_what_is_written() -> None:
    """Each line is within the bound and holds the one before: as values they would be thousands deep."""
    lines = ["a0: &a0 []"] + [f"a{n}: &a{n} {'[' * 50}*a{n - 1}{']' * 50}" for n in range(1, 30)]
    assert f"a.yaml:3: lists and mappings are nested deeper than {MAX_DEPTH}" in refusal("\n".join(lines))
    assert only("\n".join(lines[:2]))["a1"]
    assert only(f"a: &a {'[' * 98}1{']' * 98}\nb: [*a]\nc: *a\n")["c"]
    assert "a.yaml:2: lists" in refusal(f"a: &a {'[' * 98}1{']' * 98}\nb: [[*a]]\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\n", "a.yaml:2: this is not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3: the key 'a' occurs twice"),
        ("a: *nobody\n", "a.yaml:1: the alias *nobody has no anchor"),
        ("a: &x [*x]\n", "a.yaml:1: the alias *x has no anchor"),
        ("a: .inf\n", "a.yaml:1: .inf is no value"),
        ("a: !!python/object:os.system x\n", "a.yaml:1: the tag"),
        ("a: !Ref {x: 1}\n", "a.yaml:1: the tag '!Ref'"),
        ("? [a]\n: 1\n", "a.yaml:1: a key must be a string"),
        ("? *x\n: 1\n", "has no anchor"),
        ("1.5: 1\n", "a.yaml:1: a key must be a string"),
        ("a:\n\t- 1\n", "a.yaml:2: this is not valid YAML"),
        ("a:\n  <<: 3\n", "a.yaml:2: '<<' merges mappings only"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper than"),
        ("[" * 100_000, "nested deeper than"),
        ("a: b\x07", "this is not valid YAML"),
    ],
)
def test_what_kubernetes_could_not_mean_is_refused_with_its_line(text: str, said: str) -> None:
    """One clear sentence, never a traceback."""
    assert said in refusal(text)


def test_json_that_yaml_cannot_read_is_read_as_json() -> None:
    """JSON escapes astral characters as surrogate pairs, which YAML knows nothing of."""
    text = json.dumps({"a": "\U0001f600", "b": ["x\ty"]})
    assert only(text) == {"a": "\U0001f600", "b": ["x\ty"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": "\\ud83d\\ude00",}', "not valid JSON"),
        ('{"a": "\\ud83d\\ude00", "a": 1}', "the key 'a' occurs twice"),
        ('{"a": "\\ud83d\\ude00", "b": NaN}', "NaN is no value"),
        ('{"a": "\\ud83d\\ude00", "b": ' + "9" * 5000 + "}", "a number too long"),
    ],
)
def test_wrong_json_is_refused(text: str, said: str) -> None:
    """The second reader is as strict as the first."""
    assert said in refusal(text)
