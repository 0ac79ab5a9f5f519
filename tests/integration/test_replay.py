"""A source under a wrong mapping, corrected, and put back by the command line: the star is as if it had been right."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import time

import pytest
import yaml
from integration_homes import MARTS_TABLES, ROOT

from warehouse.sample import generate_shop

pytestmark = pytest.mark.integration

REFUSED_INPUT = 3
RAW_ORDER_LINES = "order_id, line_number, quantity, unit_price, _source_file, _source_row"


def write_mapping(folder, click_fields=None, **order_columns):
    """The shop's mapping, some columns of its order lines, or some fields of its clicks, under other names."""
    folder.mkdir(exist_ok=True)
    mapping = yaml.safe_load((ROOT / "warehouse" / "sources" / "shop.yml").read_text())
    mapping["entities"]["order_lines"]["columns"] |= order_columns
    mapping["clicks"]["fields"] |= click_fields or {}
    (folder / "shop.yml").write_text(yaml.safe_dump(mapping))


@pytest.mark.timeout(1800)
def test_what_a_wrong_mapping_refused_comes_back_as_if_it_had_been_right(new_home, tmp_path):
    landing = tmp_path / "landing"
    generate_shop(landing, customers=60, products=30, days=20, orders=300, seed=5)
    sources = tmp_path / "sources"
    env = {"CUSTOMER_ANALYTICS_SOURCES_DIR": str(sources)}
    write_mapping(sources)
    right, corrected = new_home(), new_home()
    # One line is broken in the file that lands; its fixed bytes are what the undisturbed shop has in its place.
    files = sorted((landing / "orders").rglob("*.csv.gz"))
    content = gzip.decompress(files[0].read_bytes()).split(b"\n")
    sound = content[1]
    fixed = tmp_path / "fixed.csv"
    fixed.write_bytes(sound)
    right.command("run", "--landing", str(landing), env=env)
    broken = tmp_path / "broken"
    shutil.copytree(landing, broken)
    (broken / files[0].relative_to(landing)).write_bytes(
        gzip.compress(b"\n".join([content[0], sound + b",x", *content[2:]]))
    )

    write_mapping(sources, order_id="no_such_column")
    corrected.command("run", "--landing", str(broken), env=env, check=REFUSED_INPUT)
    refused = json.loads(corrected.command("quarantine", "list", "--reason", "wrong_schema", "--format", "json"))
    assert len(refused) == len(files)
    assert corrected.query("select count(*) as n from raw.order_lines") == [{"n": 0}]
    write_mapping(sources)
    shutil.rmtree(broken / "orders")  # only the lake has their bytes now
    chooser = random.Random(7)
    killed = 0
    for most in (3, 4, 5, 6):
        process = corrected.start("quarantine", "replay", "--all", "--source", "shop", env=env)
        time.sleep(chooser.uniform(1.5, most))
        if process.popen.poll() is None:
            os.killpg(process.popen.pid, signal.SIGKILL)
            killed += 1
        process.communicate_bounded()
    assert killed
    output = corrected.command("quarantine", "replay", "--all", "--source", "shop", env=env, check=REFUSED_INPUT)
    assert "wrong_field_count" in output
    [line] = json.loads(corrected.command("quarantine", "list", "--state", "open", "--format", "json"))
    assert (line["kind"], line["reason_code"]) == ("record", "wrong_field_count")
    corrected.command("run", "--landing", str(broken), env=env)
    assert "1 records put back" in corrected.command("quarantine", "replay", line["id"], "--fixed", str(fixed), env=env)
    corrected.command("run", "--landing", str(broken), env=env)
    assert corrected.contents("raw.order_lines", RAW_ORDER_LINES) == right.contents("raw.order_lines", RAW_ORDER_LINES)
    for table in MARTS_TABLES:
        assert corrected.contents(table) == right.contents(table), table
    assert corrected.query("select count(*) as n from quality.reconciliations where not is_passed") == [{"n": 0}]


@pytest.mark.timeout(1800)
def test_dead_letters_of_a_wrong_mapping_come_back_as_if_it_had_been_right(new_home, tmp_path):
    landing = tmp_path / "landing"
    shop = {"customers": 40, "products": 20, "days": 5, "orders": 80, "seed": 5}
    generate_shop(landing, **shop)
    clicks = [part for name, value in shop.items() for part in (f"--{name}", str(value))]
    clicks += ["--clicks", "--poison-per-mille", "10"]
    sources = tmp_path / "sources"
    env = {"CUSTOMER_ANALYTICS_SOURCES_DIR": str(sources)}
    contents, letters = [], []
    for is_right in (True, False):
        home = new_home()
        write_mapping(sources)
        home.command("generate", *clicks, env=env)
        write_mapping(sources, {} if is_right else {"price": "page"})
        home.command("stream", "--once", env=env, check=REFUSED_INPUT)
        if not is_right:
            write_mapping(sources)
            listed = json.loads(home.command("quarantine", "list", "--most", "100000", "--format", "json"))
            assert len(listed) > 2 * len(letters[0])
            home.command("quarantine", "replay", "--all", env=env, check=REFUSED_INPUT)
        home.command("run", "--landing", str(landing), env=env, check=None)
        places = "partition_id, record_position, reason_code, record_value"
        letters.append(home.contents("ops.dead_letters where state = 'open'", places))
        contents.append(
            {
                table: home.contents(table, columns)
                for table, columns in {
                    "marts.fact_clicks": "* exclude (source_file, ingested_at)",
                    "marts.fact_sessions": "*",
                    "marts.conversion_funnel": "*",
                }.items()
            }
        )
        assert home.query("select count(*) as n from quality.reconciliations where not is_passed") == [{"n": 0}]
    assert letters[0] == letters[1] != []
    assert contents[0]["marts.fact_clicks"]
    for table in contents[0]:
        assert contents[0][table] == contents[1][table], table
