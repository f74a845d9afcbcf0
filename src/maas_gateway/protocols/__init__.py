"""Wire protocols of prediction."""
