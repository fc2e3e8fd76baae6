"""From recordings to an encoder: paired windows, the CM-SSL stages, evaluation."""
