-- Run once, by PostgreSQL's image, on an empty volume. The key store is a database of its own, so that it can be
-- backed up apart: a backup that holds only the main database opens no model.
CREATE DATABASE maas_keys OWNER maas;
