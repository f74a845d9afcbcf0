"""What computes a model's answers, one module a format."""
