"""What may be served: models, versions, labels, and their artifacts, sealed at rest."""
