"""Signing in at the logins of communities: which there are, who somebody is there, and what that gives here."""
