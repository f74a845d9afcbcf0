"""Users, service accounts and the roles bound to them."""
