"""From an encoder to an int8 bundle, with proof of what int8 cost."""
