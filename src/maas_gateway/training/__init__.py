"""Train models, each in a confined child; nothing of a framework is imported in the gateway."""
