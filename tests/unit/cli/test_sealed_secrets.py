"""Secrets: values leave sealed, or not at all, and never in an error."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fairlead_cli.errors import ManifestInvalid
from fairlead_cli.manifest_files import Text
from fairlead_cli.manifests import Located, read_manifests
from fairlead_cli.sealed_secrets import has_values, without_values
from fairlead_shared.bundle import make_bundle
from fairlead_shared.sealing import SealContext, unseal

WHERE = ("acme", "shop", "staging")
KEY = X25519PrivateKey.generate()


def secret(fields: str) -> Located:
    """Read one Secret with some more lines."""
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: db}}\n{fields}"
    return read_manifests([Text("a.yaml", text)], "shop")[0]


def test_values_are_sealed_for_one_place() -> None:
    """String data wins over data, as in the API server; the agent gets exactly these bytes."""
    located = secret("type: Opaque\ndata: {a: AP8=, b: eA==}\nstringData: {b: ü, c: ''}\n")
    sealed = without_values(located, WHERE, KEY.public_key())
    assert set(sealed) == {"apiVersion", "kind", "metadata", "type", "sealedData"}
    opened = unseal(sealed["sealedData"], SealContext(*WHERE, "shop", "db"), [KEY])
    assert opened == {"a": b"\x00\xff", "b": "ü".encode(), "c": b""}
    assert make_bundle([sealed]).content


def test_other_objects_stay_as_they_are() -> None:
    """A Secret without values, and a custom kind of the same name."""
    empty = secret("data: {}\n")
    custom = read_manifests(
        [Text("a.yaml", "apiVersion: x.y/v1\nkind: Secret\nmetadata: {name: a}\ndata: {b: c}\n")], "n"
    )[0]
    for located in (empty, custom):
        assert not has_values(located)
        assert without_values(located, WHERE, None) == located.manifest


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("data: {password: 'hunter2!'}\n", "data.password: Secret shop/db: the value is not base64"),
        ("stringData: {password: 8675309}\n", "stringData.password: Secret shop/db: the value must be a string"),
        ("data: [hunter2]\n", "data: Secret shop/db: must be a mapping"),
        (f"stringData: {{a: {'x' * 1_100_000}}}\n", "more than 1,048,576 bytes"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_without_the_value(fields: str, said: str) -> None:
    """An error ends up in CI logs."""
    with pytest.raises(ManifestInvalid) as caught:
        without_values(secret(fields), WHERE, KEY.public_key())
    assert said in str(caught.value)
    assert str(caught.value).startswith("a.yaml:1: ")
    assert not any(value in str(caught.value) for value in ("hunter2", "8675309"))


def test_wrapped_base64_is_read() -> None:
    """As `base64` prints it without -w0."""
    wrapped = base64.encodebytes(b"x" * 100).decode()
    located = secret(f"data:\n  a: |\n    {'    '.join(wrapped.splitlines(keepends=True))}")
    sealed = without_values(located, WHERE, KEY.public_key())
    assert unseal(sealed["sealedData"], SealContext(*WHERE, "shop", "db"), [KEY]) == {"a": b"x" * 100}
