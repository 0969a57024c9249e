"""What payloads write, live and kept, and the stream of their jobs' changes."""
