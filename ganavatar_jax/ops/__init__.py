"""StyleGAN primitives as pure functions: arrays in, arrays out, weights are arguments."""
