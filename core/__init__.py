"""The log and its meaning: events, capture, interpretation. Knows no engine and no protocol."""
