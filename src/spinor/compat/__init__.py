"""DIRAC's command names over Spinor's verbs, for people and scripts that know them. Nothing else imports this."""
