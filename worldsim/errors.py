"""Errors that this project raises on purpose; anything else is a bug."""


class WorldsimError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 3


class CheckpointError(WorldsimError):
    """A world or checkpoint cannot be used: missing, corrupt, or written for another format."""


class DataError(WorldsimError):
    """A video, recording or side file cannot be used."""


class TrainingError(WorldsimError):
    """Training cannot go on: the loss is no number any more."""


class ArgumentError(WorldsimError, ValueError):
    """An argument that cannot be; a wrong flag, where a command passes it on."""

    exit_code = 2


class ProtocolError(WorldsimError):
    """The peer sent bytes that are not a valid message; `path` is of the wrong field, if known."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class MachineError(WorldsimError):
    """This machine lacks something: a library, a display, a free port."""

    exit_code = 4
