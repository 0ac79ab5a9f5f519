"""Damaged landing folders: every good row is loaded, every bad thing is in quarantine, and status and report say so."""

from __future__ import annotations

import pytest

from warehouse.sample import write_broken_landing

pytestmark = pytest.mark.integration

REFUSED_INPUT = 3


@pytest.fixture(scope="module", params=["shop", "online_retail"])
def landing(request, new_home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("landing") / request.param
    truth = write_broken_landing(folder, seed=11, shape=request.param)
    home = new_home()
    output = home.command("run", "--source", request.param, "--landing", str(folder), check=REFUSED_INPUT)
    return request.param, folder, truth, home, output


def test_all_good_rows_are_loaded_and_no_other(landing):
    _, _, truth, home, _ = landing
    assert home.query("select count(*) as n from raw.order_lines") == [{"n": truth.good_order_lines}]
    (facts,) = home.query("select count(*) as n, sum(quantity) as units from marts.fact_orders")
    assert facts["n"] == truth.good_order_lines
    assert facts["units"] == truth.quantity
    gross = home.query("select currency, sum(gross_amount) as gross from marts.fact_orders group by 1")
    assert {row["currency"]: str(row["gross"]) for row in gross} == {
        currency: str(float(amount)) if amount % 1 else str(int(amount)) for currency, amount in truth.gross.items()
    }


def test_each_broken_line_is_in_quarantine_with_its_bytes_place_and_reason(landing):
    _, _, truth, home, _ = landing
    rows = home.query("select source_file, source_row, raw_bytes, reason from ops.quarantine where source_row > 0")
    found = {(row["source_file"], row["source_row"]): row for row in rows}
    expected = {(file.path, line.row): line for file in truth.files for line in file.broken}
    assert found.keys() == expected.keys()
    for place, line in expected.items():
        assert bytes.fromhex(found[place]["raw_bytes"]).rstrip(b"\r\n") == line.content, place
        assert found[place]["reason"]


def test_each_bad_file_is_in_quarantine_and_its_bytes_are_kept(landing):
    source, folder, truth, home, _ = landing
    rows = home.query("select source_file, source_hash, reason from ops.quarantine where source_row is null")
    found = {row["source_file"]: row for row in rows}
    assert found.keys() == {file.path for file in truth.files if file.fault}
    for path, row in found.items():
        assert row["reason"]
        (kept,) = (home.path / "lake" / "quarantine" / source / "files" / row["source_hash"]).iterdir()
        assert kept.read_bytes() == (folder / path).read_bytes()


def test_status_output_and_report_say_so(landing):
    _, _, truth, home, output = landing
    refused = sum(file.fault is not None for file in truth.files)
    assert f"{truth.broken_lines} records, {refused} files" in output
    (report,) = (home.path / "reports").glob("*.html")
    text = report.read_text(encoding="utf-8")
    for file in truth.files:
        if file.fault:
            assert file.path.rsplit("/", 1)[-1] in text
    listed = home.command("quarantine", "list", "--format", "csv", "--most", "1000")
    assert len(listed.splitlines()) == 1 + refused + truth.broken_lines
    entry = listed.splitlines()[1].split(",")[0]
    assert "reason" in home.command("quarantine", "show", entry)


def test_reconciliation_still_ties(landing):
    *_, home, _ = landing
    assert home.query("select count(*) as n from quality.reconciliations where not is_passed") == [{"n": 0}]


def test_running_again_refuses_nothing_twice(landing):
    source, folder, truth, home, _ = landing
    home.command("run", "--source", source, "--landing", str(folder))
    assert home.query("select count(*) as n from raw.order_lines") == [{"n": truth.good_order_lines}]
    (entries,) = home.query("select count(*) as n from ops.quarantine")
    assert entries["n"] == truth.broken_lines + sum(file.fault is not None for file in truth.files)
