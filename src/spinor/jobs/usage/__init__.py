"""What jobs use while they run and what each of their attempts was, and looks into their directories."""
