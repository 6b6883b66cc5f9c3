"""The composition roots: only here do models, data, training and analysis meet."""
