"""The main job on real input: from an empty directory to a plot made by grid jobs. Run it with `make demo`."""
