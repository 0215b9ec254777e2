"""The pages of the console: one module each, with a Quart blueprint `bp` that `app.py` registers."""
