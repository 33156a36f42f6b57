"""GAN-Avatar in JAX: a controllable 3D head avatar from posed images of one person."""

__version__ = "0.1.0"
