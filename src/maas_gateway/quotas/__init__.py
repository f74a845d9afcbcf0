"""How much a caller may ask for, and how much it did: rates, places, lifetime budgets, usage."""
