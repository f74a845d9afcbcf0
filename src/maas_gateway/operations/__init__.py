"""Long acts: their state, how far they are, and who works on them, so that a killed one resumes."""
