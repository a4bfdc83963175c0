"""What was found out about a model, and the ways to show it."""

from costmodel.report.report import Report

__all__ = ["Report"]
