"""How training images are reconstructed, where they are."""

import dataclasses

from ganavatar_jax.models import encoder_config
from ganavatar_jax.training import adam_config

# Reconstruction is ordinary regression: momentum helps it, as it would harm the adversarial game.
RECON_ADAM = adam_config.AdamConfig(lr=0.004, beta1=0.9, beta2=0.99)


@dataclasses.dataclass(frozen=True)
class ReconstructionConfig:
    """Reconstruction of the training images beside the adversarial phases (not in the original).

    Attributes:
      encoder: Sizes of the encoder, and what it tells.
      warmup_iterations: Iterations at the start with this phase alone; -1: all of the run.
      noise: Standard deviation of the noise on encoded latents, whose own is one; bounds what
        the encoder can tell.
      encoded_p: Probability that an adversarial phase uses the latent of a real image, seen from
        another camera, instead of a random one.
      random_p: Probability that a latent is random instead of encoded, so that random latents give
        the mean of the person until the adversarial phases teach them variety.
      adam: Optimiser of encoder and generator in this phase.
      final_lr_scale: Factor on the learning rate at the end of the run, reached linearly over the
        second half.
      focus_point: Centre of the face in the capture's frame, world units; between nose and mouth
        when the head is aligned as CONVENTIONS.md says.
      focus_radius: Standard deviation of the emphasis around it, world units.
      focus_weight: How much more the pixels at its centre weigh; 0 switches the emphasis off. A
        mouth is a few dozen pixels of a head: without it, an open one is not worth a latent.
      eyes_point: Middle of the eyes in the capture's frame, world units.
      eyes_radius: Standard deviation of the emphasis around it, world units.
      eyes_weight: How much more the pixels there weigh, beside the emphasis on the face; with it,
        LPIPS also sees the square around them. 0 switches it off. A blink is two
        rows of pixels.
      l1_weight: Weight of the mean absolute difference, images in [-1, 1].
      lpips_weight: Weight of LPIPS (AlexNet): the mean over the image and, with an emphasis, the
        enlarged squares around the face (half the image's side) and the eyes (a quarter).
      truth_limit_mb: What LPIPS sees of the real images is kept in each process where it takes no
        more than this many MB (2^20 bytes), and computed anew at each step otherwise. A frame of 64
        pixels with both emphases takes 0.36.
      uniformity_weight: Weight of the evenness of learned latents over their sphere, so that random
        latents are as good as encoded ones; 0 switches it off.
      camera_weight: How strongly the learned latent is kept from telling the camera: a probe learns
        to read the camera's direction off it, and its gradient reaches the encoder reversed and
        times this; 0 switches it off.
      unseen_interval: Every so many iterations the generator is also held to what the base makes of
        this person from sides that the capture never shows; 0 never does. Without a start
        that reads faces nothing is filled in, and a line says so.
      unseen_count: How many such pictures are made.
    """

    encoder: encoder_config.EncoderConfig = dataclasses.field(
        default_factory=encoder_config.EncoderConfig
    )
    warmup_iterations: int = 0
    noise: float = 0.2
    encoded_p: float = 0.5
    random_p: float = 0.1
    adam: adam_config.AdamConfig = RECON_ADAM
    final_lr_scale: float = 0.1
    focus_point: tuple[float, float, float] = (0.0, -0.1, 0.19)
    focus_radius: float = 0.1
    focus_weight: float = 8.0
    eyes_point: tuple[float, float, float] = (0.0, -0.022, 0.155)
    eyes_radius: float = 0.05
    eyes_weight: float = 0.0
    l1_weight: float = 1.0
    lpips_weight: float = 0.5
    truth_limit_mb: int = 1024
    uniformity_weight: float = 0.0
    camera_weight: float = 0.0
    unseen_interval: int = 0
    unseen_count: int = 256

    def __post_init__(self) -> None:
        learned = self.encoder.identity == "learned"
        if not learned and (self.uniformity_weight or self.camera_weight):
            raise ValueError(
                "uniformity_weight and camera_weight act on a learned identity; got "
                f'encoder.identity="{self.encoder.identity}". Set both to 0.'
            )
        if self.truth_limit_mb < 0:
            raise ValueError(f"truth_limit_mb must not be negative; got {self.truth_limit_mb}.")
        if self.unseen_interval < 0 or self.unseen_count < 1:
            raise ValueError(
                "unseen_interval must be at least 0, unseen_count at least 1; got "
                f"{self.unseen_interval} and {self.unseen_count}."
            )
        if self.warmup_iterations < -1:
            raise ValueError(
                f"warmup_iterations must be -1 (all) or at least 0; got {self.warmup_iterations}."
            )

    def is_alone(self, iteration: int) -> bool:
        """Tells whether an iteration (0-based) has this phase alone."""
        return self.warmup_iterations < 0 or iteration < self.warmup_iterations
