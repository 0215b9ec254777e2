"""Conf: what may an operator set, and what must be found on this machine?

`settings` are the typed settings (file, environment, flags), `profile` says how a client reaches a
cluster, `join` how a volume actor does, `logging` sets up what actors write to standard error.
`programs` starts modules of ours.
`python -m warehouse.conf` prints the documentation and a sample file, both made from the settings themselves.
"""
