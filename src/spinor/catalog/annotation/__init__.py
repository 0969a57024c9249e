"""Metadata in bulk: of listed files and directories, each with its own values, and of all files that a query names."""
