"""The engine of apmctl: dataset distillation by adversarial prediction matching."""

__version__ = "0.1.0"
