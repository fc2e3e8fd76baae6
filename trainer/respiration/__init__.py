"""The device's respiratory rate: its labels, its model, and what both are worth."""
