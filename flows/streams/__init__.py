"""Streams into RAW, near real time and exactly once: sources, micro-batches, dead letters."""
