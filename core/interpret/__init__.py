"""Pure functions from captured events to typed actions."""
