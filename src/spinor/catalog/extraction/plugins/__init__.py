"""The extractors that come with Spinor."""
