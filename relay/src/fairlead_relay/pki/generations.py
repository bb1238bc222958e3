"""
The certificate authority on disk: its files, and how a new generation of them takes the place of the last.

    pki/root.pem root.key issuing.pem issuing.key    the first generation
    pki/signer.key                                   signs deployment statements; not part of any generation
    pki/ca-2/ …                                      the next one: the same files, and cross.pem
    pki/ca-2/alone                                   the change is over: the generations before count no more

The folder may be a read-only mount of a Secret; then nothing is made or changed here, but by whoever keeps the Secret.

Every step is one rename, so that a crash leaves either the old state or the new one, and a relay that serves meanwhile
sees no half of it. The last generation issues; all that are listed are trusted. `cross.pem` is the new root signed by
the old one, with the same name: who trusts only the old root still accepts servers (RFC 4210 §4.4, RFC 5280 §6.1: such
a certificate is self-issued, and does not count against the old root's path length).

This module knows files and certificates; it issues nothing to servers or agents.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fairlead_relay.errors import AuthorityDamaged, AuthorityInvalid, Conflict
from fairlead_relay.pki.certificates import (
    certificate_builder,
    certificate_pem,
    common_name,
    issued_by,
    key_pem,
    key_usage,
)
from fairlead_relay.pki.private_files import create_folder, write_private
from fairlead_shared.identity import certificate_fingerprint

ROOT_LIFE = timedelta(days=20 * 365)
ISSUING_LIFE = timedelta(days=5 * 365)
_ROOT, _ROOT_KEY, _ISSUING, _ISSUING_KEY, _CROSS = "root.pem", "root.key", "issuing.pem", "issuing.key", "cross.pem"
_SIGNER, _ALONE = "signer.key", "alone"
_NEXT = re.compile(r"ca-([2-9]|[1-9][0-9]{1,3})")


@dataclass(frozen=True, slots=True)
class Generation:
    """A root and its issuing CA."""

    number: int
    """1 for the first."""
    folder: Path
    root: x509.Certificate
    issuing: x509.Certificate
    cross: x509.Certificate | None
    """The root, signed by the one before it; None for the first, and where the root stayed."""

    @property
    def issuer(self) -> str:
        """Fingerprint of the issuing CA, lower-case hex."""
        return certificate_fingerprint(self.issuing)

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """Tell whether a certificate is signed by this issuing CA."""
        try:
            certificate.verify_directly_issued_by(self.issuing)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def create_first(folder: Path, now: datetime) -> None:
    """
    Make the first generation and the statement signer, unless the folder exists.

    Raises: OSError: the folder cannot be written.
    """
    create_folder(folder, {**_new_files(now, None), _SIGNER: key_pem(ed25519.Ed25519PrivateKey.generate())})


def create_given(folder: Path, root_pem: bytes, issuing_pem: bytes, issuing_key_pem: bytes) -> Generation:
    """
    Make the first generation of what the operator's own CA issued; the root's key stays with the operator.

    Raises:
        Conflict: there is an authority already.
        AuthorityInvalid: the files do not belong together, or are not fit for it.
        OSError: the folder cannot be written.
    """
    try:
        root = x509.load_pem_x509_certificate(root_pem)
        issuing = x509.load_pem_x509_certificate(issuing_pem)
        key = serialization.load_pem_private_key(issuing_key_pem, None)
        issuing.verify_directly_issued_by(root)
        constraints = issuing.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound as error:
        raise AuthorityInvalid("the issuing certificate is not that of a CA") from error
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        reason = "a file is no PEM, the key is encrypted, or the root did not sign the issuing CA"
        raise AuthorityInvalid(reason) from error
    if not constraints.ca:
        raise AuthorityInvalid("the issuing certificate is not that of a CA")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != issuing.public_key():
        raise AuthorityInvalid("the key is not the issuing CA's, or is no ECDSA key")
    files = {
        _ROOT: certificate_pem(root),
        _ISSUING: certificate_pem(issuing),
        _ISSUING_KEY: key_pem(key),
        _SIGNER: key_pem(ed25519.Ed25519PrivateKey.generate()),
    }
    if not create_folder(folder, files):
        raise Conflict("this relay has a CA already; give it its own before its first start")
    return _read(folder, 1)


def authority_files(folder: Path) -> list[Path]:
    """
    List every file of the authority, sorted; none where there is no folder.

    A mounted Secret also has hidden folders, to which the files are links: those are not listed.
    """
    if not folder.is_dir():
        return []
    folders = [folder, *(path for path in folder.iterdir() if _NEXT.fullmatch(path.name) and path.is_dir())]
    files = (path for one in folders for path in one.iterdir())
    return sorted(path for path in files if path.is_file() and not path.name.startswith("."))


def stamp(folder: Path) -> tuple[str, ...]:
    """
    Return what changes when a generation comes or goes; cheap enough to be asked every second.

    Of a mounted Secret that is the name of its hidden folder, which is another after each change of the Secret.
    """
    try:
        return tuple(sorted(f"{path.name}{(path / _ALONE).exists()}" for path in folder.iterdir() if path.is_dir()))
    except OSError:
        return ()


def read_generations(folder: Path) -> tuple[Generation, ...]:
    """
    Read the generations that count, oldest first.

    Raises: AuthorityDamaged: a file is missing, unreadable or does not belong to the others.
    """
    numbers = sorted(int(match[1]) for path in folder.iterdir() if (match := _NEXT.fullmatch(path.name)))
    numbers = [1, *numbers]
    for place, number in enumerate(numbers):
        if (folder_of(folder, number) / _ALONE).exists():
            numbers = numbers[place:]
            break
    return tuple(_read(folder, number) for number in numbers)


def folder_of(folder: Path, number: int) -> Path:
    """Return where a generation's files are."""
    return folder if number == 1 else folder / f"ca-{number}"


def read_issuing_key(generation: Generation) -> ec.EllipticCurvePrivateKey:
    """
    Read the key of an issuing CA.

    Raises: AuthorityDamaged: it is missing, or is another's.
    """
    key = _read_key(generation.folder / _ISSUING_KEY)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != generation.issuing.public_key():
        raise AuthorityDamaged(str(generation.folder), "issuing.key is not the key of issuing.pem")
    return key


def read_signer(folder: Path) -> ed25519.Ed25519PrivateKey:
    """
    Read the key that signs deployment statements.

    Raises: AuthorityDamaged: it is missing, or of another kind.
    """
    key = _read_key(folder / _SIGNER)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise AuthorityDamaged(str(folder), "signer.key is no Ed25519 key")
    return key


def begin_change(folder: Path, now: datetime, *, keep_root: bool) -> Generation:
    """
    Make the next generation, which issues from now on beside the last one.

    Args:
        folder: Of the authority.
        now: For the certificates.
        keep_root: Whether only the issuing CA is new.
    Returns: The new generation.
    Raises:
        Conflict: a change is under way already, or the present root's key is not there to sign with.
        AuthorityDamaged: a file cannot be used.
        OSError: the folder cannot be written.
    """
    generations = read_generations(folder)
    last = generations[-1]
    if len(generations) > 1:
        raise Conflict("a change of the CA is under way already; end it with 'fairlead-relay ca finish' first")
    if not (last.folder / _ROOT_KEY).exists():
        raise Conflict(
            "the root's key is not here to sign with: put root.key back for this command, and away again after"
        )
    root_key = _read_key(last.folder / _ROOT_KEY)
    if not isinstance(root_key, ec.EllipticCurvePrivateKey) or root_key.public_key() != last.root.public_key():
        raise AuthorityDamaged(str(last.folder), "root.key is not the key of root.pem")
    number = last.number + 1
    target = folder_of(folder, number)
    if not create_folder(target, _new_files(now, (last.root, root_key), keep_root=keep_root)):
        raise Conflict("another command changes the CA at this moment")
    return _read(folder, number)


def finish_change(folder: Path) -> Generation:
    """
    Let only the newest generation count, and delete what came before. Twice is once.

    Raises: Conflict: no change is under way. OSError: the folder cannot be written.
    """
    generations = read_generations(folder)
    last = generations[-1]
    if len(generations) == 1:
        raise Conflict("no change of the CA is under way; 'fairlead-relay ca rotate' begins one")
    write_private(last.folder / _ALONE, b"")
    for old in generations[:-1]:
        if old.number > 1:
            shutil.rmtree(old.folder)
            continue
        for name in (_ROOT_KEY, _ISSUING_KEY, _ISSUING, _ROOT):
            (folder / name).unlink(missing_ok=True)
    return last


def _read(folder: Path, number: int) -> Generation:
    place = folder_of(folder, number)
    try:
        root = x509.load_pem_x509_certificate((place / _ROOT).read_bytes())
        issuing = x509.load_pem_x509_certificate((place / _ISSUING).read_bytes())
        issuing.verify_directly_issued_by(root)
        cross_file = place / _CROSS
        cross = x509.load_pem_x509_certificate(cross_file.read_bytes()) if cross_file.exists() else None
    except OSError as error:
        raise AuthorityDamaged(str(folder), f"{error.filename}: {error.strerror}") from error
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise AuthorityDamaged(str(folder), "a file is no PEM, or was not made with the others") from error
    return Generation(number, place, root, issuing, cross)


def _read_key(file: Path) -> object:
    try:
        return serialization.load_pem_private_key(file.read_bytes(), None)
    except OSError as error:
        raise AuthorityDamaged(str(file.parent), f"{error.filename}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityDamaged(str(file.parent), f"{file.name} is no PEM of a private key") from error


def _new_files(
    now: datetime, former: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None, *, keep_root: bool = False
) -> Mapping[str, bytes]:
    """Make a root, signed also by the former one, and its issuing CA; or only the latter."""
    name, issuing_name = common_name("Fairlead root CA"), common_name("Fairlead issuing CA")
    files: dict[str, bytes] = {}
    if former is not None and keep_root:
        root, root_key = former
    else:
        root_key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            certificate_builder(name, name, root_key.public_key(), now, ROOT_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(key_usage(signs_certificates=True), critical=True)
        )
        root = builder.sign(root_key, hashes.SHA256())
        if former is not None:
            cross = builder.add_extension(issued_by(former[0]), critical=False)
            files[_CROSS] = certificate_pem(cross.sign(former[1], hashes.SHA256()))
    issuing_key = ec.generate_private_key(ec.SECP256R1())
    issuing = (
        certificate_builder(issuing_name, root.subject, issuing_key.public_key(), now, ISSUING_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(issued_by(root), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return {
        _ROOT_KEY: key_pem(root_key),
        _ROOT: certificate_pem(root),
        _ISSUING_KEY: key_pem(issuing_key),
        _ISSUING: certificate_pem(issuing),
        **files,
    }
