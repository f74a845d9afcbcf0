"""A client of the gateway's HTTP interface; it imports no other room, so it can be taken elsewhere."""
