"""Acts that change what is served, by whom, under which keys: one module each.

Each act decides whether the caller may, does it in one transaction with its audit record, and only
then tells this process that a topic changed. The data plane is never called: it follows the registry.
"""
