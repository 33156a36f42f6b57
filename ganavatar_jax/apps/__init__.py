"""The stages of the method, as tasks of the program."""
