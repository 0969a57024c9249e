"""Spinor in a notebook: `%load_ext spinor` brings the magics %login %jobs %%job %logs %find %get ...

They are thin sugar over the objects of `spinor.api`.
"""
