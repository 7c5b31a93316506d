"""Read models built from the log; each can be deleted and rebuilt."""
