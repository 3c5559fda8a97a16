"""Recipes trained over several seeds, scored, and compared with published figures."""
