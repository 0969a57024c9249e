"""The storage plugins that come with Spinor."""
