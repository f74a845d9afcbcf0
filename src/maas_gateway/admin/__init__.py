"""The management API and OAuth: JSON over HTTP, errors by RFC 9457."""
