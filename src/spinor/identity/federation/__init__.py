"""Signing in at the logins of communities."""
