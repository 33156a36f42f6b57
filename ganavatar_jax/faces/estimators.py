"""Builds the estimator a config names."""

from ganavatar_jax.core import errors
from ganavatar_jax.faces import estimation, estimator_config


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

    Source: ours.
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
