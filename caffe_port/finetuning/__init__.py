"""Recipes trained over several seeds, scored, and set beside one another and what was published."""
