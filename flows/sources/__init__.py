"""Batch sources: what a legacy file means (mapping), how it is read, and how it becomes a staged file."""
