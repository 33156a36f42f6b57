"""PyTorch weights in and out, without torch and without running what a file carries."""
