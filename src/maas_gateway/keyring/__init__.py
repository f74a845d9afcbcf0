"""Keys by purpose: made, wrapped by the root key, rotated, retired; and the data keys they wrap."""
