"""Holdfast holds a scarce slot for a while and then confirms it."""

__version__ = "0.2.0"
