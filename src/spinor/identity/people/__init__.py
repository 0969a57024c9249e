"""People and what was given to them: members of a VO, their sessions, suspensions, and the audit log of credentials."""
