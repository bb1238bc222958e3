"""Comparing what was deployed with what is to be."""

from typing import Any

from fairlead_cli.changes import MAX_COMPARED_LINES, Changes, ObjectChange, compare
from fairlead_cli.manifest_files import Text
from fairlead_cli.manifests import Located, read_manifests

CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: one}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n"


def located(text: str) -> list[Located]:
    """Read what is to be deployed."""
    return read_manifests([Text("a.yaml", text)], "shop")


def deployed(text: str) -> list[dict[str, Any]]:
    """Return what a bundle made of this holds, its Secrets sealed."""
    manifests = [dict(one.manifest) for one in located(text)]
    for manifest in manifests:
        if manifest.pop("stringData", None):
            manifest["sealedData"] = {"keys": [], "nonce": "x", "ciphertext": "y"}
    return manifests


def change(before: str, after: str) -> ObjectChange:
    """Compare two texts of one object."""
    [one] = compare(deployed(before), located(after), "deployment 1")
    return one


def test_the_same_is_unchanged() -> None:
    """However it is written; lists and numbers count by value."""
    assert change(
        CONFIG, "data:\n  'a': one\nmetadata: {name: c, namespace: shop}\nkind: ConfigMap\napiVersion: v1\n"
    ) == (ObjectChange(object=located(CONFIG)[0].ref, action="unchanged", origin="a.yaml:1"))


def test_a_change_is_a_unified_diff() -> None:
    """Between the deployment and the file, of YAML."""
    one = change(CONFIG, CONFIG.replace("one", "two"))
    assert (one.action, one.origin) == ("changed", "a.yaml:1")
    assert one.diff.splitlines() == [
        "--- deployment 1 ConfigMap shop/c",
        "+++ a.yaml:1 ConfigMap shop/c",
        "@@ -1,6 +1,6 @@",
        " apiVersion: v1",
        " data:",
        "-  a: one",
        "+  a: two",
        " kind: ConfigMap",
        " metadata:",
        "   name: c",
    ]


def test_new_and_gone_objects_are_shown_whole() -> None:
    """In the order of a bundle."""
    gone, new = compare(deployed(CONFIG), located(CONFIG.replace("name: c", "name: d")), "deployment 1")
    assert (gone.action, gone.origin, new.action) == ("pruned", "", "created")
    assert "+++ /dev/null ConfigMap shop/c" in gone.diff
    assert "--- /dev/null ConfigMap shop/d" in new.diff


def test_values_of_secrets_are_neither_compared_nor_shown() -> None:
    """Nobody here can open what was sealed; the rest of a Secret counts."""
    same = change(SECRET, SECRET.replace("hunter2", "other"))
    assert (same.action, same.diff) == ("unknown", "")
    labelled = change(SECRET, SECRET.replace("name: s", "name: s, labels: {a: b}"))
    assert labelled.action == "changed"
    [new] = compare([], located(SECRET), "")
    assert "+sealedData: (sealed)" in new.diff
    assert not any("hunter2" in one.diff for one in (same, labelled, new))
    emptied = change(SECRET, SECRET.replace("{password: hunter2}", "{}"))
    assert "-sealedData: (sealed)" in emptied.diff


def test_another_api_version_is_the_same_object() -> None:
    """It moves, it is not pruned and created."""
    old = "apiVersion: a.b/v1beta1\nkind: C\nmetadata: {name: c}\n"
    assert change(old, old.replace("v1beta1", "v1")).action == "changed"


def test_very_long_objects_are_not_compared_line_by_line() -> None:
    """It would take minutes."""
    long = CONFIG.replace("{a: one}", "{" + ", ".join(f"k{n}: x" for n in range(MAX_COMPARED_LINES)) + "}")
    one = change(CONFIG, long)
    assert one.action == "changed"
    assert one.diff.splitlines()[-1].endswith("more than 20,000 lines, which differ")


def test_counts_and_verdict() -> None:
    """What is unknown is no change that is seen."""
    for after, counts in ((SECRET, {"unknown": 1}), (CONFIG, {"created": 1, "pruned": 1})):
        objects = compare(deployed(SECRET), located(after), "x")
        made = Changes(application="a", environment="e", cluster="c", compared_with=None, objects=objects)
        assert made.is_changed is (after is CONFIG)
        assert {action: count for action, count in made.counts().items() if count} == counts
