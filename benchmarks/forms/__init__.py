"""Which shape of the encoder the engines' int8 delegates take whole, what it costs, and what it loses."""
