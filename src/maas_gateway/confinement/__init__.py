"""Start a child process with limits and without keys, and speak with it over pipes."""
