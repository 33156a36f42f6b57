"""Reading expression codes off images."""
