"""Errors a user can cause, each one line: what was expected, what came, the fix.

`ganavatar_jax.main` prints the message of any `GanAvatarError` and exits with code 2; every
other exception is a defect of ours and keeps its traceback.
"""


class GanAvatarError(Exception):
    """Base of all errors that are about the user's input rather than about our code."""


class ConfigError(GanAvatarError):
    """A config file, key or value is not what the program understands."""


class DataFormatError(GanAvatarError):
    """A capture or dataset on disk breaks its format; names the file and the frame."""


class WeightError(GanAvatarError):
    """A weight file cannot be read safely, or does not fit the network it is meant for."""


class EstimatorError(GanAvatarError):
    """A face estimator cannot be set up: its model file or runtime is missing or wrong."""


class MissingDependencyError(GanAvatarError):
    """An optional package is needed for what was asked; names the extra to install."""


class BackendError(GanAvatarError):
    """The installed JAX computes wrong on this machine."""


class RunError(GanAvatarError):
    """A run folder cannot be used: no permission, or it lacks a stage this one needs."""
