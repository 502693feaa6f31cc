"""What can go wrong and is foreseen. Every error says what is wrong and, in `hint`, what to do next."""

from __future__ import annotations


class ApmError(Exception):
    """Base of all foreseen errors: one line of message and one line of hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(ApmError):
    """A setting, a value or a configuration file that makes no sense; `field` is the dotted path of the setting."""

    def __init__(self, message: str, hint: str = "", *, field: str = "") -> None:
        super().__init__(message, hint)
        self.field = field


class DeviceError(ApmError):
    """A device that was asked for and is not there."""


class ArtifactError(ApmError):
    """An artifact that is missing, damaged or from a newer schema."""


class MismatchError(ArtifactError):
    """Artifacts that are sound but do not belong together."""


class DataError(ApmError):
    """A data set that is unknown, missing, empty or too small."""


class NetworkError(ApmError):
    """The network, the Hub or the credentials for it."""


class StoreError(ApmError):
    """A store that cannot be read or written."""


class NumericsError(ApmError):
    """A loss or an image that stopped being a finite number."""


class MemoryExhaustedError(ApmError):
    """Work that does not fit into memory however it is cut."""


class Interrupted(BaseException):
    """A run that was asked to stop and has saved its state; `signal` is the number of the signal.

    As KeyboardInterrupt it is no Exception: what catches all of those in passing, as compilers and decoders do,
    must not swallow it.
    """

    def __init__(self, message: str, hint: str = "", *, signal: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.signal = signal
