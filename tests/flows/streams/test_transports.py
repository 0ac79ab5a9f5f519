"""A transport is one module beside the others."""

from __future__ import annotations

from pathlib import Path

import pytest

import flows.streams.sources
from flows.settings import Settings
from flows.streams.source import StreamError, open_publisher, open_source, transports
from tests.flows.streams.memory_stream import MemorySource, MemoryStream

MODULE = """
from tests.flows.streams.memory_stream import MemorySource, MemoryStream


def open_source(settings, stream, *, group):
    return MemorySource(MemoryStream(), stream)


def open_publisher(settings, stream):
    raise RuntimeError(f"nobody publishes to {stream}")
"""


def test_the_shipped_transports() -> None:
    assert transports() == ["kafka", "kinesis"]


def test_a_module_that_is_added_is_a_transport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pulsar.py").write_text(MODULE)
    monkeypatch.setattr(flows.streams.sources, "__path__", [*flows.streams.sources.__path__, str(tmp_path)])
    assert transports() == ["kafka", "kinesis", "pulsar"]
    source = open_source(Settings(home=tmp_path), "pulsar", "clicks", group="g")
    assert isinstance(source, MemorySource)
    assert source.poll(1, 0).records == MemorySource(MemoryStream()).poll(1, 0).records
    with pytest.raises(RuntimeError, match="nobody publishes to clicks"):
        open_publisher(Settings(home=tmp_path), "pulsar", "clicks")


def test_an_unknown_transport_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="no transport 'pigeon'; choose one of kafka, kinesis"):
        open_source(Settings(home=tmp_path), "pigeon", "clicks", group="g")
