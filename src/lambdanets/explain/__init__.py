"""What a lambda layer looks at: receptive fields and lambdas, drawn."""
