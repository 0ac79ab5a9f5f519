"""Pipes as the loader defines them, and the prefixes it tells them of."""

from __future__ import annotations

import random
import re

import pytest
import sqlglot
from sqlglot import exp

from warehouse.contract import ENTITIES
from warehouse.loading import LAKE_STAGE, UPLOADS_STAGE, LoadError
from warehouse.snowpipe import Pipe, checked_name, covering_prefixes

CLICKS = Pipe(
    table="RAW.CLICK_EVENTS", stage=LAKE_STAGE, folder="staged/click_events", copy_statement="copy_click_events"
)

PREFIXES = (
    # what is wanted, what else is there, the prefixes
    (["shop/a1.parquet"], [], ["s"]),
    (["shop/a1.parquet", "shop/b1.parquet"], [], ["s"]),
    (["shop/a1.parquet"], ["shop/b1.parquet"], ["shop/a"]),
    (["shop/a1.parquet", "shop/a2.parquet"], ["shop/b1.parquet"], ["shop/a"]),
    (["shop/a1.parquet", "shop/c1.parquet"], ["shop/b1.parquet", "shop/d1.parquet"], ["shop/a", "shop/c"]),
    (["shop/a1.parquet"], ["shop/a0.parquet", "shop/a2.parquet"], ["shop/a1"]),
    (["shop/a"], ["shop/ab"], ["shop/a"]),
    ([], ["shop/b1.parquet"], []),
)


@pytest.mark.parametrize(("wanted", "others", "expected"), PREFIXES)
def test_prefixes_fit_what_is_wanted_only(wanted: list[str], others: list[str], expected: list[str]) -> None:
    assert covering_prefixes(wanted, [*wanted, *others]) == expected


def test_prefixes_of_many_files_fit_each_wanted_one_and_no_other() -> None:
    chance = random.Random(4)
    names = [f"{chance.choice(('shop', 'other'))}/{chance.getrandbits(64):016x}.parquet" for _ in range(2000)]
    for share in (0.02, 0.5, 0.98):
        wanted = [name for name in names if chance.random() < share]
        prefixes = covering_prefixes(wanted, names)
        fitting = {name for name in names if name.startswith(tuple(prefixes))}
        assert fitting == set(wanted)
        assert len(prefixes) <= len(wanted)
        assert not any(a != b and a.startswith(b) for a in prefixes for b in prefixes)


@pytest.mark.parametrize(
    "pipe",
    [
        *[
            Pipe(table=f"RAW.{entity.table}", stage=stage, folder=f"staged/{name}")
            for name, entity in ENTITIES.items()
            for stage in (LAKE_STAGE, UPLOADS_STAGE)
        ],
        CLICKS,
    ],
    ids=lambda pipe: f"{pipe.table}-{pipe.stage}",
)
def test_a_pipes_copy_is_snowflake_and_has_no_option_that_a_pipe_cannot_have(pipe: Pipe) -> None:
    copy = sqlglot.parse_one(pipe.copy, read="snowflake")
    assert isinstance(copy, exp.Copy)
    options = {parameter.this.name.upper() for parameter in copy.args["params"]}
    assert "FILE_FORMAT" in options
    assert not options & {"FILES", "FORCE", "PURGE", "ON_ERROR"}
    assert "$" not in re.sub(r"\$1\b", "", pipe.copy)
    assert f"@{pipe.stage}/{pipe.folder}/" in pipe.copy


def test_a_pipe_over_a_bucket_takes_notifications() -> None:
    topic = "arn:aws:sns:eu-west-1:123456789012:lake"
    pipe = Pipe("RAW.ORDER_LINES", LAKE_STAGE, "staged/order_lines", auto_ingest=True, sns_topic=topic)
    head = pipe.create().partition(" as copy into")[0]
    assert head.startswith(
        f"create pipe if not exists RAW.ORDER_LINES_PIPE auto_ingest = true aws_sns_topic = '{topic}'"
    )
    assert f"comment = '{pipe.comment}'" in head
    without = Pipe("RAW.ORDER_LINES", LAKE_STAGE, "staged/order_lines")
    assert "auto_ingest = false comment" in without.create()
    assert without.comment != pipe.comment, "another definition has another comment, by which it is recognised"


def test_names_that_are_none_of_ours_are_refused() -> None:
    with pytest.raises(LoadError, match="no name of a pipe"):
        checked_name("raw.p; drop table x")
