"""The night's page: one HTML file with its style and plots inside, which loads nothing and runs nothing."""

from __future__ import annotations

from ratchet.adapters.report.page import HtmlReporter

__all__ = ["HtmlReporter"]
