"""Where state is kept: two engines, sessions that see one tenant, and the tables' metadata."""
