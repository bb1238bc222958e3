"""
Bundles: the immutable, content-addressed set of manifests of one deployment.

Bytes: JSON lines. Line 1 is the header `{"format":"fairlead.bundle/1","objects":N}`, then one canonical JSON object
per line, sorted by (group, kind, namespace, name). The same manifests in any order and any file give the same bytes,
hence the same SHA-256. A Secret carries `sealedData` (see sealing.py) in place of `data`; plaintext is refused
wherever a bundle is read. This module reads no files and knows no YAML.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NewType

from fairlead_shared.canonical import canonical_json
from fairlead_shared.errors import BundleInvalid, ErrorCode
from fairlead_shared.objects import Manifest, ObjectRef

BundleHash = NewType("BundleHash", str)
"""Lower-case hex SHA-256 of a bundle's bytes."""

FORMAT = "fairlead.bundle/1"
MAX_BUNDLE_BYTES = 16 * 1024 * 1024
"""Raw size; the largest sets of charts seen in the wild stay under 6 MiB."""
MAX_OBJECTS = 20_000
MAX_DEPTH = 64
"""Nesting of one object; the API server itself stops at a few dozen for real kinds."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation that repeats the whole object, Secret values included."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Checked bundle bytes with their hash."""

    content: bytes
    sha256: BundleHash

    def objects(self) -> Iterator[dict[str, Any]]:
        """Yield the manifests one by one, in canonical order."""
        lines = iter(self.content.splitlines())
        next(lines)
        for line in lines:
            yield json.loads(line)


def hash_of(content: bytes) -> BundleHash:
    """Return the address of a bundle's bytes."""
    return BundleHash(hashlib.sha256(content).hexdigest())


def make_bundle(manifests: Iterable[Manifest]) -> Bundle:
    """
    Make the bundle of some manifests, Secrets already sealed.

    Raises: BundleInvalid: a malformed object, a duplicate, a plaintext Secret, or a limit passed.
    """
    ordered = sorted(
        ((_checked(manifest, None), manifest) for manifest in manifests), key=lambda pair: pair[0].identity
    )
    _refuse_duplicates([ref for ref, _ in ordered])
    header = canonical_json({"format": FORMAT, "objects": len(ordered)})
    content = b"\n".join([header, *(canonical_json(manifest) for _, manifest in ordered)]) + b"\n"
    _check_size(len(content), len(ordered))
    return Bundle(content, hash_of(content))


def read_bundle(content: bytes, expected: BundleHash | None = None) -> Bundle:
    """
    Check bytes from somebody else: hash, header, canonical form, order, limits, no plaintext Secret.

    Args:
        content: The whole bundle, in bytes.
        expected: The address it must have; None when it only now gets one.
    Raises: BundleInvalid: any of these fails; the line is named where there is one.
    """
    _check_size(len(content), 0)
    address = hash_of(content)
    if expected is not None and address != expected:
        reason = f"its SHA-256 is {address}, expected {expected}"
        raise BundleInvalid(reason, code=ErrorCode.BUNDLE_UNAVAILABLE)
    if not content.endswith(b"\n"):
        raise BundleInvalid("the last line is cut off")
    lines = io.BytesIO(content)  # one at a time: an agent is to have little memory for thousands
    count, following = _read_header(lines.readline()), content.count(b"\n") - 1
    if count != following:
        raise BundleInvalid(f"the header announces {count} objects, {following} follow", line=1)
    _check_size(len(content), count)
    refs = (_read_line(line.removesuffix(b"\n"), number) for number, line in enumerate(lines, start=2))
    for one, other in itertools.pairwise(refs):
        if one.identity >= other.identity:
            _refuse_duplicates([one, other])
            raise BundleInvalid("objects are not in canonical order")
    return Bundle(content, address)


def _read_header(line: bytes) -> int:
    try:
        header = json.loads(line)
    except ValueError:
        raise BundleInvalid("the header is no JSON", line=1) from None
    if not isinstance(header, dict) or header.get("format") != FORMAT or not isinstance(header.get("objects"), int):
        raise BundleInvalid(f"the header must name format {FORMAT!r} and the number of objects", line=1)
    return int(header["objects"])


def _read_line(line: bytes, number: int) -> ObjectRef:
    try:
        manifest = json.loads(line, parse_constant=_refuse_constant)
        canonical = canonical_json(manifest)
    except (ValueError, RecursionError):
        raise BundleInvalid("the object is no JSON", line=number) from None
    if canonical != line:
        raise BundleInvalid("the object is not in canonical form", line=number)
    return _checked(manifest, number)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _check_size(size_bytes: int, objects: int) -> None:
    if size_bytes > MAX_BUNDLE_BYTES:
        reason = f"it has {size_bytes:,} bytes, the limit is {MAX_BUNDLE_BYTES:,}; deploy it in parts"
        raise BundleInvalid(reason, code=ErrorCode.TOO_LARGE)
    if objects > MAX_OBJECTS:
        reason = f"it has {objects:,} objects, the limit is {MAX_OBJECTS:,}; deploy it in parts"
        raise BundleInvalid(reason, code=ErrorCode.TOO_LARGE)


def _refuse_duplicates(ordered: Sequence[ObjectRef]) -> None:
    for one, other in itertools.pairwise(ordered):
        if one.identity == other.identity:
            raise BundleInvalid(f"{one} occurs twice")


def _checked(manifest: Any, line: int | None) -> ObjectRef:  # noqa: ANN401  (whatever JSON held)
    if not isinstance(manifest, dict):
        raise BundleInvalid("an object must be a mapping", line=line)
    for field in ("apiVersion", "kind"):
        if not isinstance(manifest.get(field), str) or not manifest[field]:
            raise BundleInvalid(f"{field} is missing or no string", line=line)
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise BundleInvalid(f"{manifest['kind']}: metadata.name is missing or no string", line=line)
    if not isinstance(metadata.get("namespace", ""), str):
        raise BundleInvalid(f"{manifest['kind']}: metadata.namespace is no string", line=line)
    try:
        ref = ObjectRef.of(manifest)
    except ValueError:
        raise BundleInvalid(f"{manifest['kind'][:63]}: a name is longer than Kubernetes allows", line=line) from None
    if depth_of(manifest) > MAX_DEPTH:
        raise BundleInvalid(f"{ref}: nested deeper than {MAX_DEPTH}", line=line, code=ErrorCode.TOO_LARGE)
    if ref.kind == "Secret" and ref.group == "":
        _refuse_plaintext(manifest, ref, line)
    return ref


def _refuse_plaintext(secret: dict[str, Any], ref: ObjectRef, line: int | None) -> None:
    for field in ("data", "stringData"):
        if secret.get(field):
            raise BundleInvalid(f"{ref}: {field} is in plaintext; values must be sealed to the agent's key", line=line)
    annotations = secret["metadata"].get("annotations")
    if isinstance(annotations, dict) and LAST_APPLIED in annotations:
        raise BundleInvalid(f"{ref}: annotation {LAST_APPLIED} may hold its values; remove it", line=line)


def depth_of(value: object) -> int:
    """Return how deep lists and mappings nest in a value; a scalar has depth 0. Stops counting above 2 × MAX_DEPTH."""
    deepest = 0
    stack: list[tuple[object, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        deepest = max(deepest, depth)
        if depth > 2 * MAX_DEPTH:
            break
        if isinstance(item, dict):
            stack.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            stack.extend((child, depth + 1) for child in item)
    return deepest
