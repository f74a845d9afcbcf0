"""What is computed with: datatypes, tensors, signatures, requests and answers; values without any I/O."""
