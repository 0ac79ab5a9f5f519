"""Saving a model as versioned numbers: one .npz file of plain arrays, never a pickle."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
import pyarrow as pa

_T = TypeVar("_T")
_HEADER = "header"


def flatten(record: object, prefix: str) -> dict[str, np.ndarray]:
    """The fields of a dataclass (nested ones too) as named arrays. Raises TypeError for a field that is no number."""
    arrays: dict[str, np.ndarray] = {}
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        name, value = f"{prefix}.{field.name}", getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            arrays |= flatten(value, name)
        elif isinstance(value, pa.Array):
            texts = value.to_pylist()
            encoded = [text.encode() for text in texts]
            arrays[f"{name}.bytes"] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
            arrays[f"{name}.lengths"] = np.array([len(text) for text in encoded], dtype=np.int64)
        elif isinstance(value, np.ndarray | float | int):
            arrays[name] = np.asarray(value)
        else:
            raise TypeError(
                f"{name} is a {type(value).__name__}: only numbers, texts and dataclasses of them are saved"
            )
    return arrays


def rebuild(kind: type[_T], arrays: dict[str, np.ndarray], prefix: str) -> _T:
    """The dataclass that `flatten` took apart. Raises KeyError naming an array that is missing."""
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        key = f"{prefix}.{name}"
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            values[name] = rebuild(hint, arrays, key)
        elif hint is pa.Array:
            ends = np.cumsum(arrays[f"{key}.lengths"])
            content = arrays[f"{key}.bytes"].tobytes()
            starts = np.r_[0, ends[:-1]] if len(ends) else ends
            texts = [content[start:end].decode() for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
            values[name] = pa.array(texts, pa.string())
        elif hint in (float, int):
            values[name] = hint(arrays[key])
        else:
            values[name] = arrays[key]
    return kind(**values)


def write_numbers(path: Path, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Writes header (as JSON) and arrays to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **{_HEADER: encoded}, **arrays)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_numbers(path: Path, kind: str, version: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file written by `write_numbers`.

    Raises FileNotFoundError if there is none, ValueError if it is no such file or of another kind or version.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop(_HEADER).tobytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"no saved model at {path}: fit one and save it there first") from None
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a saved model ({error}): fit and save it again") from error
    found = (header.get("kind"), header.get("version"))
    if found != (kind, version):
        raise ValueError(
            f"{path} holds {found[0]} version {found[1]}, expected {kind} version {version}: fit and save it again"
        )
    return header, arrays
