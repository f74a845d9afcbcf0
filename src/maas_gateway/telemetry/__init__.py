"""What operators see: log lines and metrics; never a tensor, a token, a key or a body."""
