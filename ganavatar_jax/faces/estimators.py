"""Builds the estimator a config names, and says which one that is."""

from ganavatar_jax.core import errors
from ganavatar_jax.faces import calibration, estimation, estimator_config, model_files
from ganavatar_jax.runs import identity


def make_estimator(config: estimator_config.EstimatorConfig) -> estimation.Estimator:
    """Builds the estimator that a config names, loading what it needs.

    Args:
      config: The choice and its options.

    Returns:
      The estimator; not safe to share between threads.

    Raises:
      EstimatorError: the model or codes file is missing or wrong.
      WeightError: brought weights are damaged or of another kind.
      DataFormatError: the codes file breaks its format.
    """
    # Imported here: codes from a file need no face networks.
    if config.name == "mediapipe":
        from ganavatar_jax.faces import mediapipe_face

        return mediapipe_face.MediaPipeFace(config)
    if config.name == "deep3dface":
        from ganavatar_jax.faces import deep3dface

        return deep3dface.Deep3dFace(config)
    from ganavatar_jax.faces import precomputed

    if config.codes_path is None:
        raise errors.EstimatorError(
            'estimator "precomputed" needs codes_path; got None. '
            "Set it to an expressions.json or .npz file."
        )
    return precomputed.load(config.codes_path)


def identify(config: estimator_config.EstimatorConfig) -> str | None:
    """Computes what is equal for estimators with equal files, wherever these are; see the options.

    Args:
      config: The choice and its options.

    Returns:
      Hexadecimal SHA-256 of the files; None where one of them is not there, which is not fetched.
    """
    digests: dict[str, str | None] = {}
    if config.name == "precomputed":
        digests["codes"] = identity.digest_file(config.codes_path or "")
    else:
        # The landmarker is only right bit by bit.
        digests["landmarker"] = model_files.FACE_LANDMARKER.sha256
    if config.name == "deep3dface":
        digests["regressor"] = identity.digest_file(config.model_path or "")
    if config.name == "mediapipe" and config.calibration != calibration.NONE:
        digests["calibration"] = calibration.digest(config.calibration)
    if None in digests.values():
        return None
    return identity.digest_values(digests)
