"""Ratchet: continuous training in which production quality turns one way."""

__version__ = "0.1.0"
