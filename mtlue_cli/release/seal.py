"""The seal of a release: what shows that its records are those that its owner wrote.

The digests in ``run.json`` find accidents: whoever can edit a file can edit its digest too. ``seal.json`` holds an
HMAC-SHA256 of the digest of ``run.json`` under a key that only the owner has, and with ``--sign`` an Ed25519 signature,
which anyone can check. ``run.json`` holds the digests of the manifest, of the label file and of the companions, the
manifest those of every image and map: so the seal covers the whole release. In a release in shards it covers
``shards.json`` and the copied cards too.

While a run is under way there is no seal. ``journal`` then holds an HMAC of the settings, and one of each record, so
that a run that is resumed takes up no record that another hand has written.
"""

import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, structs

from mtlue_cli.documents import Document
from mtlue_cli.files import has_digest, open_regular, read_regular, write_atomically
from mtlue_cli.keys import Key, present_keys, read_key
from mtlue_cli.release.records import (
    FOLDER,
    MANIFEST_PATH,
    RUN_PATH,
    Manifest,
    Record,
    RunRecord,
    manifest_line,
    record_path,
    settings_digest,
)
from mtlue_cli.release.signing import PublicKey, SigningKey, read_public_key
from mtlue_cli.tasks.paths import path_fault

SEAL_NAME = "seal.json"
SEAL_PATH = f"{FOLDER}/{SEAL_NAME}"
JOURNAL_NAME = "journal"
SCHEMA_VERSION = 1

NOT_AUTHENTICATED = "not authenticated: name a key or a signer to check who wrote them"
"""What is said of records that nobody vouches for."""

NO_SEAL = f"{SEAL_PATH}: is missing: an older version made the release, or someone removed its seal"

_SEALING_KEY = b"mtlue release seal v1"
_LONGEST_SEAL = 1 << 20


class Seal(Document, frozen=True, forbid_unknown_fields=True, tag_field="schema_version", tag=SCHEMA_VERSION):
    """What ``seal.json`` holds.

    Attributes:
        files: SHA-256 of the bytes of each sealed file, by its name in the release.
        key_fingerprint: Public name of the key.
        mac: HMAC-SHA256 of :attr:`message` under the sealing key, hexadecimal.
        signer: Raw Ed25519 public key of whoever signed it, hexadecimal.
        signature: Of :attr:`message`, hexadecimal.
    """

    files: Mapping[str, str]
    key_fingerprint: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")] | None = None
    mac: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None
    signer: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None
    signature: Annotated[str, Meta(pattern="^[0-9a-f]{128}$")] | None = None

    def content(self) -> bytes:
        """The file, to the byte."""
        return (json.dumps(self.to_json(), indent=2) + "\n").encode()

    @property
    def message(self) -> bytes:
        """What is authenticated: the name of this construction, and the files as JSON with sorted keys."""
        return _SEALING_KEY + b"\n" + json.dumps(dict(self.files), sort_keys=True).encode("utf-8", "surrogatepass")

    def is_of_key(self, key: Key) -> bool:
        """Whether ``key`` made it, and it says so."""
        expected = _sealing_key(key).derive(self.message).hex()
        if self.mac is None or self.key_fingerprint != key.fingerprint:
            return False
        return hmac.compare_digest(expected.encode(), self.mac.encode("utf-8", "replace"))

    def is_of_signer(self, signer: PublicKey) -> bool:
        """Whether the owner of ``signer`` made it, and it says so."""
        return (
            self.signature is not None and self.signer == signer.hex and signer.has_signed(self.signature, self.message)
        )


@dataclass(frozen=True)
class Sealer:
    """What a run seals its release with.

    Attributes:
        key: The user's key; None where there is none: the release has then no HMAC.
        signer: What ``--sign`` names; None: the release has no signature.
    """

    key: Key | None = None
    signer: SigningKey | None = None

    def seal(self, release: Path, files: Mapping[str, str]) -> None:
        """Write the seal of ``files``, name to digest; nothing without a key or signer.

        Raises:
            OSError: It cannot be written.
        """
        if self.key is None and self.signer is None:
            return
        found = Seal(files)
        if self.key is not None:
            found = structs.replace(found, key_fingerprint=self.key.fingerprint, mac=self.mac(found.message))
        if self.signer is not None:
            signature = self.signer.sign(found.message)
            found = structs.replace(found, signer=self.signer.public.hex, signature=signature)
        write_atomically(record_path(release, SEAL_PATH), found.content())

    def mac(self, message: bytes) -> str | None:
        """HMAC of a message of this program under the sealing key, hexadecimal; None without a key."""
        return None if self.key is None else _sealing_key(self.key).derive(message).hex()

    def journal(self, run: RunRecord) -> "Journal | None":
        """What vouches for the records of an unfinished run with these settings; None without a key."""
        return None if self.key is None else Journal(_sealing_key(self.key), run)

    def vouched(self, release: Path, manifest: Manifest) -> Manifest | None:
        """What of a release is known to come from a run with this key; None: nothing, not even its settings.

        Of a complete release that is all or nothing, of an unfinished one every record by itself. Without a key nothing
        can be checked, and all is taken as it is.
        """
        if self.key is None:
            return manifest
        if manifest.run.complete:
            seal = None if isinstance(found := read_seal(release), str) else found
            whole = seal is not None and seal.is_of_key(self.key) and not _other_records(manifest, seal)
            return manifest if whole and manifest.run.digests.get(MANIFEST_PATH) == manifest.manifest_sha256 else None
        journal = Journal(_sealing_key(self.key), manifest.run)
        try:
            with open_regular(record_path(release, f"{FOLDER}/{JOURNAL_NAME}")) as stream:
                lines = frozenset(stream.readall().decode("ascii", "replace").split("\n"))
        except OSError:
            return None
        if journal.of_settings not in lines:
            return None
        return replace(manifest, files=tuple(record for record in manifest.files if journal.of(record) in lines))


@dataclass(frozen=True)
class Journal:
    """HMACs, with the sealing key, of the settings of an unfinished run, and of its records under these settings."""

    key: Key
    run: RunRecord

    @cached_property
    def of_settings(self) -> str:
        """HMAC of the settings, hexadecimal."""
        return self.key.derive(f"settings {settings_digest(self.run.to_json())}".encode()).hex()

    @cached_property
    def of_records(self) -> hmac.HMAC:
        """The HMAC of a record as it begins: what is missing is the record's line of the manifest."""
        return self.key.begun(f"record {self.of_settings} ".encode())

    def of(self, record: Record) -> str:
        """HMAC of a record, hexadecimal."""
        mac = self.of_records.copy()
        mac.update(manifest_line(record).encode("utf-8", "surrogatepass"))
        return mac.hexdigest()

    def text(self, records: Iterable[Record]) -> bytes:
        """The journal as it begins, with the records that are continued."""
        return "".join(f"{line}\n" for line in (self.of_settings, *map(self.of, records))).encode()


@dataclass(frozen=True)
class Trust:
    """Whom a reader of a release believes.

    Attributes:
        key: The key that must have sealed it; None: any.
        signer: Who must have signed it; None: anyone.
        present: Keys of the reader's own: if one of them has sealed it, it is checked without being named.
    """

    key: Key | None = None
    signer: PublicKey | None = None
    present: tuple[Key, ...] = ()

    @property
    def demands(self) -> bool:
        """Whether a release without a seal is at fault."""
        return self.key is not None or self.signer is not None


@dataclass(frozen=True)
class Authentication:
    """What the seal of a release says.

    Attributes:
        faults: One per line.
        by: Who vouches for the records, in words; empty if nobody does.
        signer: Fingerprint of whoever signed them; as the seal says, unless ``by`` names the signature. None: nobody.
    """

    faults: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    signer: str | None = None

    @property
    def described(self) -> str:
        """In words."""
        if self.by:
            return f"authenticated by {' and '.join(self.by)}"
        return "not authenticated, see the faults" if self.faults else NOT_AUTHENTICATED

    @property
    def signed_by(self) -> str:
        """Who signed them, in words; empty if nobody did."""
        if self.signer is None or any(self.signer in who for who in self.by):
            return self.signer or ""
        return f"{self.signer}, as the seal says: check it with --signer FILE"


def trust_of(key: Path | None, signer: Path | None) -> Trust:
    """Whom a reader believes who names these files.

    Raises:
        InputError: One of them cannot be read.
    """
    return Trust(
        None if key is None else read_key(key).key, None if signer is None else read_public_key(signer), present_keys()
    )


def read_seal(release: Path) -> Seal | str | None:
    """The seal of a release; None without one, or what is wrong with it, in words."""
    try:
        content = read_regular(record_path(release, SEAL_PATH), _LONGEST_SEAL)
        found = msgspec.json.decode(content, type=Seal)
        # Nothing but the files is authenticated: whatever else there is room for could be a photo.
        return found if found.content() == content else "holds something that a seal does not"
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except (ValueError, RecursionError) as error:
        return f"is damaged: {error}"


def authenticate(release: Path, manifest: Manifest, trust: Trust) -> Authentication:
    """Who vouches for the records of a complete release.

    Whatever the seal says, it is a fault if it seals other records than there are: only someone who has its key or
    trusts its signer knows that the seal itself is not another.
    """
    seal = read_seal(release)
    if isinstance(seal, str):
        return Authentication((f"{SEAL_PATH}: {seal}",))
    if seal is None:
        return Authentication((NO_SEAL,) if trust.demands else ())
    faults = _other_records(manifest, seal)
    by: list[str] = []
    if trust.key is not None and not seal.is_of_key(trust.key):
        faults.append(_other_key(seal, trust.key))
    if trust.signer is not None and not seal.is_of_signer(trust.signer):
        faults.append(f"{SEAL_PATH}: is not signed by {trust.signer.fingerprint}")
    for key in trust.present if trust.key is None else (trust.key,):
        if seal.is_of_key(key):
            by.append(f"the key {key.fingerprint}")
            break
        if trust.key is None and seal.key_fingerprint == key.fingerprint:
            faults.append(_other_key(seal, key))
            break
    if trust.signer is not None and seal.is_of_signer(trust.signer):
        by.append(f"the signature of {trust.signer.fingerprint}")
    signer = None if seal.signer is None else PublicKey(bytes.fromhex(seal.signer)).fingerprint
    return Authentication(tuple(faults), () if faults else tuple(by), signer)


def sealed_file_faults(release: Path, seal: Seal, required: Iterable[str]) -> list[str]:
    """Files, other than the run record, whose bytes are not those that were sealed, or that are not sealed."""
    faults = [f"{SEAL_PATH}: does not cover {name}" for name in required if name not in seal.files]
    for name, digest in seal.files.items():
        if name == RUN_PATH:
            continue
        if path_fault(name, "release") is not None or not has_digest(record_path(release, name), digest):
            faults.append(f"{name}: its bytes are not those that were sealed")
    return faults


def _other_records(manifest: Manifest, seal: Seal) -> list[str]:
    """How the records differ from those that were sealed, one per line."""
    if seal.files.get(RUN_PATH) != manifest.run_sha256:
        return [f"{RUN_PATH}: its bytes are not those that were sealed"]
    return []


def _other_key(seal: Seal, key: Key) -> str:
    if seal.key_fingerprint == key.fingerprint:
        return f"{SEAL_PATH}: is forged: the key {key.fingerprint} that it names did not make it"
    named = f"made with the key {seal.key_fingerprint}" if seal.key_fingerprint else "made without a key"
    return f"{SEAL_PATH}: is {named}, not with {key.fingerprint}"


def _sealing_key(key: Key) -> Key:
    """The key of seals, from which the user's own cannot be computed."""
    return Key(key.derive(_SEALING_KEY))
