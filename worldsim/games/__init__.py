"""Real games, played by scripted policies and recorded to video; needs the extra `[games]`."""
