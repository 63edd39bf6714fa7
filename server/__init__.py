"""Worlds over a websocket: protocol (no I/O), sessions, and the app that accepts players."""
