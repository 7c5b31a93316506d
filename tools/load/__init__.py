"""The load test: many clients of a service at once, and whether each gets back what it was told is stored."""
