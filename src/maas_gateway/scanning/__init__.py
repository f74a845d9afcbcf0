"""Is this artifact safe to accept: pure decisions on bytes, one allow-list a format."""
