"""What the shipped bundle finds in real recordings, what it misses, and how often it cries wolf."""
