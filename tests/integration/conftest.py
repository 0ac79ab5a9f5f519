"""Fixtures of `integration_homes`, for the tests of this folder."""

from __future__ import annotations

from integration_homes import new_home, online_retail

__all__ = ["new_home", "online_retail"]
