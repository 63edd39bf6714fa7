"""Ways to compute a tick that give the same numbers sooner; `torch` is the specification."""
