"""The error that a user can act on."""

from __future__ import annotations


class CostModelError(Exception):
    """Bad input or a question that cannot be answered: one line saying what, where, what to do."""
