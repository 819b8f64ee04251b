"""Learning: from films with labels to a model that may serve, and to figures that tell the truth about it."""
