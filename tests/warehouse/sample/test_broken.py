"""The broken landing folder: its truth against what stands in the files."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from warehouse.sample import SampleArgumentError, write_broken_landing
from warehouse.sample.broken import FILE_FAULTS, LINE_FAULTS

COLUMNS = {"shop": ("qty", "price"), "online_retail": ("Quantity", "UnitPrice")}


@pytest.fixture(scope="module", params=sorted(COLUMNS))
def landing(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("broken") / "landing"
    return request.param, out, write_broken_landing(out, 11, request.param)


def test_every_fault_is_there_and_no_file_is_unaccounted_for(landing):
    _, out, truth = landing
    assert {file.path for file in truth.files} == {
        path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()
    }
    assert Counter(file.fault for file in truth.refused_files) == Counter(FILE_FAULTS)
    faults = Counter(line.fault for file in truth.files for line in file.broken)
    assert set(faults) == set(LINE_FAULTS)
    assert min(faults.values()) >= 2


def test_files_have_the_fault_that_the_truth_names(landing):
    _, out, truth = landing
    path = {file.fault: out / file.path for file in truth.refused_files}
    with pytest.raises((EOFError, zlib.error)):
        gzip.decompress(path["truncated_gzip"].read_bytes())
    assert path["empty"].read_bytes() == b""
    assert gzip.decompress(path["header_only"].read_bytes()).count(b"\n") == 1
    assert gzip.decompress(path["other_schema"].read_bytes()).startswith(b"sensor,")


def test_good_rows_and_money_are_what_a_reader_of_the_good_lines_finds(landing):
    shape, out, truth = landing
    good, quantity, gross = 0, 0, defaultdict(Decimal)
    for file in truth.files:
        if file.entity != "order_lines" or file.fault:
            continue
        header, *lines = gzip.decompress((out / file.path).read_bytes()).split(b"\n")[:-1]
        broken = {line.row: line for line in file.broken}
        for row, line in broken.items():
            assert lines[row - 1] == line.content
        kept = [line for row, line in enumerate(lines, 1) if row not in broken]
        assert len(kept) == file.good_rows
        names = header.decode().split(",")
        for values in csv.reader(line.decode() for line in kept):
            assert len(values) == len(names)
            record = dict(zip(names, values, strict=True))
            amount, price = (record[column] for column in COLUMNS[shape])
            quantity += int(amount)
            gross[record.get("currency", "GBP")] += int(amount) * Decimal(price)
            good += 1
    assert good == truth.good_order_lines > 1_000
    assert (quantity, dict(gross)) == (truth.quantity, truth.gross)


def test_broken_lines_are_broken(landing):
    _, out, truth = landing
    (file,) = (file for file in truth.files if file.broken)
    text = gzip.decompress((out / file.path).read_bytes())
    width = text.split(b"\n")[0].count(b",") + 1
    rows = text.count(b"\n") - 1
    assert truth.broken_lines == max(rows // 100, 2 * len(LINE_FAULTS))
    assert any(second.row == first.row + 1 for first, second in zip(file.broken, file.broken[1:], strict=False))
    for line in file.broken:
        fields = line.content.count(b",") + 1
        match line.fault:
            case "too_few_fields":
                assert fields < width
            case "too_many_fields":
                assert fields > width
            case "unclosed_quote":
                assert line.content.count(b'"') == 1
            case "invalid_utf8":
                with pytest.raises(UnicodeDecodeError):
                    line.content.decode()
            case "nul_byte":
                assert b"\0" in line.content


def test_descriptions_need_quoting(landing):
    _, out, truth = landing
    text = b"".join(
        gzip.decompress((out / file.path).read_bytes())
        for file in truth.files
        if file.entity == "order_lines" and not file.fault
    )
    assert b'""' in text
    assert any(b'"' in line and b", " in line for line in text.split(b"\n"))


def test_same_seed_same_truth(tmp_path):
    first, again, other = (
        write_broken_landing(tmp_path / name, seed, "online_retail") for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again != other


@pytest.mark.parametrize("shape", sorted(COLUMNS))
def test_a_folder_that_holds_something_is_refused(tmp_path, shape):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(SampleArgumentError, match=r"not (an )?empty"):
        write_broken_landing(tmp_path, 1, shape)


def test_another_shape_is_refused(tmp_path):
    with pytest.raises(SampleArgumentError, match="choose 'shop' or 'online_retail'"):
        write_broken_landing(tmp_path, 1, "invoices")
