"""Which landing files belong to which entity of a source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache

from pydantic import BaseModel, ConfigDict

from flows.lake import Lake
from flows.sources.mapping import MappingError, SourceMapping


class LandingFile(BaseModel):
    """One file as it lies in the landing zone; small enough to be passed between tasks by the thousand."""

    model_config = ConfigDict(frozen=True)

    source: str
    entity: str
    key: str
    """Relative to the landing root."""
    size: int
    """Bytes, as they lie there (compressed)."""
    etag: str
    """Changes whenever the bytes may have."""
    modified_at: datetime
    """When it was last written, UTC."""


def find_landing_files(landing: Lake, mapping: SourceMapping) -> Iterator[LandingFile]:
    """The source's files, entity by entity in the mapping's order, each entity's sorted by key; found page by page.

    Raises:
        MappingError: a file fits the globs of two entities.
    """
    for entity, entity_mapping in mapping.entities.items():
        # Globs of one entity may overlap; a file is found by the first that fits.
        for place, glob in enumerate(entity_mapping.globs):
            earlier = entity_mapping.globs[:place]
            for found in landing.list(_fixed_prefix(glob)):
                if not matches(glob, found.key) or any(matches(other, found.key) for other in earlier):
                    continue
                _refuse_second_home(mapping, entity, found.key)
                yield LandingFile(
                    source=mapping.source,
                    entity=entity,
                    key=found.key,
                    size=found.size,
                    etag=found.etag,
                    modified_at=found.modified_at,
                )


def matches(glob: str, key: str) -> bool:
    """Whether a key fits a glob: `*`, `?`, `[…]` stay within a folder and skip hidden names, `**/` is any folders."""
    return _pattern(glob).fullmatch(key) is not None


def _refuse_second_home(mapping: SourceMapping, entity: str, key: str) -> None:
    for other, other_mapping in mapping.entities.items():
        if other != entity and any(matches(glob, key) for glob in other_mapping.globs):
            raise MappingError(
                f"source {mapping.source}: file {key} fits entities.{entity}.files and entities.{other}.files; "
                "expected one; narrow one of the globs"
            )


def _fixed_prefix(glob: str) -> str:
    return re.split(r"[*?\[]", glob, maxsplit=1)[0]


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    pieces = []
    for token in re.findall(r"\*\*/|\*+|\?|\[[^\]/]+\]|[^*?\[]+|\[", glob):
        if token == "**/":
            pieces.append(r"(?:(?!\.)[^/]+/)*")
        elif token.startswith("*"):
            pieces.append(r"[^/]*")
        elif token == "?":
            pieces.append(r"[^/]")
        elif token.startswith("[") and len(token) > 1:
            pieces.append("[" + token[1:-1].replace("\\", r"\\").replace("!", "^", int(token[1] == "!")) + "]")
        else:
            pieces.append(re.escape(token))
    # A name that begins with a dot is a file still being written, or not meant for us, unless the glob says so.
    last_is_open = glob.rpartition("/")[2][:1] in ("*", "?", "[")
    body = "".join(pieces)
    return re.compile((r"(?!(?:.*/)?\.[^/]*$)" if last_is_open else "") + body, re.DOTALL)
