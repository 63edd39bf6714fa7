"""Ways to play: a pygame window, a headless game by script, a Python client (async and sync)."""
