"""Identity of a prepared set (source content, options, library versions), and the fingerprint computed from it."""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.external_sets import external_digests
from data_prep.settings import DEFAULT_SPLIT, PrepareSettings
from data_prep.sources.registry import file_digest, find_source, resolved_options, source_options

PREPARE_VERSION = 8
"""Version of the preparation. Raise it whenever `prepare` makes another set from the same source and options."""

_LIBRARIES = (
    *("numpy", "tensorflow", "keras", "keras-cv", "albumentations", "opencv-python-headless"),
    *("imagehash", "pillow", "scikit-learn"),
)
_FLAGS = {"anomalies": "anomaly"}


def identify(settings: PrepareSettings) -> dict[str, Any]:
    """Return a set's identity, as JSON types: options, library versions and a hash of the source's content.

    Reads the source's bytes without decoding images.

    Raises:
        DataError: the source, an external set, an anomaly picture or the table of groups cannot be read, or an option
            does not apply to this kind of source.
    """
    row = find_source(settings.source)
    options = asdict(settings) | resolved_options(row, **source_options(settings))
    del options["source"], options["external"]
    # Options that were added later are absent while unset, so that older prepared sets keep their fingerprint.
    if settings.external:
        options["external"] = external_digests(settings)
    if not row.resized:
        del options["image_size"]
    unset_options = (("size", None), ("value_range", None), ("class_names", ()), ("groups", None))
    for name, unset in (*unset_options, ("near_copies", "join")):
        if options[name] == unset:
            del options[name]
    if settings.split is None:
        options["split"] = "own" if row.brings_split(settings.source) else DEFAULT_SPLIT
    options["anomalies"] = sorted(file_digest(Path(path)) for path in settings.anomalies)
    if settings.groups is not None:
        options["groups"] = file_digest(Path(settings.groups))
    identity = {
        "source_kind": row.kind,
        "source_sha256": row.digest(settings.source, settings.seed),
        "settings": options,
        "versions": {"prepare": str(PREPARE_VERSION)} | {name: _version(name) for name in _LIBRARIES},
    }
    read_back: dict[str, Any] = json.loads(json.dumps(identity))
    return read_back


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an identity, 64 hexadecimal digits. Other keys of a manifest are ignored."""
    keys = ("source_kind", "source_sha256", "settings", "versions")
    content = {key: identity[key] for key in keys}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a phrase for each difference between two identities (or manifests)."""
    found = []
    if old["source_kind"] != new["source_kind"]:
        found.append(f"source was {old['source_kind']}, now {new['source_kind']}")
    elif old["source_sha256"] != new["source_sha256"] and old["source_kind"] != "demo":
        found.append("the source's content changed")
    sets = [made["settings"].get("external", {}) for made in (old, new)]
    if sets[0] != sets[1]:
        names = [", ".join(f"{name} ({digest[:8]})" for name, digest in one.items()) or "none" for one in sets]
        found.append(f"external was {names[0]}, now {names[1]}")
    for part, prefix in (("settings", ""), ("versions", "version of ")):
        for key in sorted(old[part].keys() | new[part].keys()):
            before, after = old[part].get(key), new[part].get(key)
            if before != after and key != "external":
                name = _FLAGS.get(key, key.replace("_", "-"))
                found.append(f"{prefix}{name} was {_shown(before)}, now {_shown(after)}")
    return found or ["its fingerprint differs"]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(_shown(item) for item in value) or "none"
    if isinstance(value, str) and len(value) == 64:  # a SHA-256 digest
        return value[:8]
    return "none" if value is None else str(value)


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
