"""What each choice in the encoder is worth: short runs of one budget, several seeds, judged on validation people."""
