"""The version of apmctl."""

__version__ = "0.1.0"
