"""Choosing from an answer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_cli.jsonpath import MAX_TEMPLATE_CHARACTERS, TemplateInvalid, parse_template

TREE: dict[str, Any] = {
    "items": [
        {"name": "web", "state": "failed", "size": 3, "labels": {"app.kubernetes.io/name": "shop", "a-b": "c"}},
        {"name": "db", "state": "ok", "size": 1, "is_new": True, "cause": None},
    ],
    "next_cursor": None,
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.items[0].name}", "web"),
        ("{$.items[-1].name}", "db"),
        ("{.items[*].name}", "web db"),
        ("{.items[*]['name']}", "web db"),
        ("{.items[0].labels['app.kubernetes.io/name']}", "shop"),
        (r"{.items[0].labels.app\.kubernetes\.io/name}", "shop"),
        ("{.items[0].labels.a-b}", "c"),
        ("{.items[0].labels.*}", "shop c"),
        ('{.items[?(@.state=="failed")].name}', "web"),
        ("{.items[?(@.state != 'failed')].name}", "db"),
        ("{.items[?(@.size==1)].name}", "db"),
        ("{.items[?(@.is_new==true)].name}", "db"),
        ("{.items[?(@.is_new)].name}", "db"),
        ("{.items[?(@.cause)].name}", ""),
        ("names: {range .items[*]}{.name}{'\\t'}{@.state}{\"\\n\"}{end}", "names: web\tfailed\ndb\tok\n"),
        ("{range .items[*]}{.name}={range $.items[*]}{.size}{end};{end}", "web=31;db=31;"),
        ("{.items[1].is_new} {.items[1].size}", "true 1"),
        ("{.items[0].labels}", '{"app.kubernetes.io/name": "shop", "a-b": "c"}'),
        ("{.nothing.at.all[*]}|{.next_cursor}|{.items[7].name}|{.items.name}|{.next_cursor[*]}", "||||"),
        ("{.items[*].size}", "3 1"),
        ('{"it\'s {a} \\"quote\\""}', 'it\'s {a} "quote"'),
        ("{@.items[0].name}{$['next_cursor']}", "web"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_templates(template: str, text: str) -> None:
    """What is missing or null is nothing."""
    assert parse_template(template).render(TREE) == text


def test_the_whole_answer_is_json() -> None:
    """As any other mapping."""
    assert parse_template("{$}").render({"a": "ä"}) == '{"a": "ä"}'
    assert parse_template("{@.}").render([1]) == "[1]"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{.name", "a brace or a quote is not closed"),
        ("name}", "a brace or a quote is not closed"),
        ('{"a}', "a brace or a quote is not closed"),
        ("{name}", "must begin with '.'"),
        ("{}", "must begin with '.'"),
        ("{.items[}", "is no .field"),
        ("{..name}", "is no .field"),
        ("{.items[0:2]}", "is no .field"),
        ("{.items[?(@.a==b)]}", "'b' is no value"),
        ("{end}", "no {range"),
        ("{range .items[*]}", "has no {end}"),
        ("{range .a}" * 5 + "{end}" * 5, "more than 4 ranges"),
        ("x" * (MAX_TEMPLATE_CHARACTERS + 1), "more than 4,096 characters"),
    ],
)
def test_what_is_no_template_is_refused(template: str, said: str) -> None:
    """Before anything is asked of the relay."""
    with pytest.raises(TemplateInvalid) as caught:
        parse_template(template)
    assert said in str(caught.value)


def test_what_gives_too_much_is_stopped() -> None:
    """A list within itself within itself."""
    nested = "{range $.items[*]}" * 4 + "{.name}" + "{end}" * 4
    with pytest.raises(TemplateInvalid, match="gives more than"):
        parse_template(nested).render({"items": [{"name": "x"}] * 100})


@given(st.text(alphabet="{}[].*@$?()='\"\\ abrnge01-", max_size=40))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    """Nothing else is raised, and what was read can be applied."""
    try:
        template = parse_template(text)
    except TemplateInvalid:
        return
    assert isinstance(template.render(TREE), str)
