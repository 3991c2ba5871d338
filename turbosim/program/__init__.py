"""Tile-level programs: the one intermediate representation between schedules and engines."""
