"""The computing-element plugins that come with Spinor. The contract is in `spinor.pilots.plugin`."""
