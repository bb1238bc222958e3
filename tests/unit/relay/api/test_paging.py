"""Pages: the extra row tells that there is a next one."""

import pytest

from fairlead_relay.api.paging import page


@pytest.mark.parametrize(
    ("rows", "items", "cursor"),
    [([], [], None), ([1], ["1"], None), ([1, 2], ["1", "2"], None), ([1, 2, 3], ["1", "2"], "after-2")],
)
def test_a_page_has_a_cursor_only_when_more_follows(rows: list[int], items: list[str], cursor: str | None) -> None:
    """The cursor names the last item shown, not the extra one."""
    made = page(rows, 2, str, lambda row: f"after-{row}")
    assert (made.items, made.next_cursor) == (items, cursor)
