"""Conf: what may an operator set, and what must be found on this machine?

`settings` are the typed settings (file, environment, flags), `profile` says how a client reaches a
cluster, `join` how a volume actor does, `logging` sets up what actors write to standard error.
`programs` starts modules of ours, and `working_folder` keeps them from a project's own files.
`python -m conf` prints the documentation and a sample file, both made from the settings themselves.
"""

import conf.working_folder  # noqa: F401  # first of all: what follows must not come from there
