"""Optimisation: states, steps, schedules, loop, checkpoints."""
