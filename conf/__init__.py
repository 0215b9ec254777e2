"""Conf: what may an operator set, and which files of this machine say so?

    settings.py, setting_types.py  the typed settings (file, environment, flags), and how values are read
    profile.py, join.py            how a client, and how a volume actor, reaches a cluster
    secret_file.py, files.py       files with secrets; small files that appear whole or not at all
    arguments.py, hosts.py         the words of a program; addresses to listen on or to advertise
    programs.py                    how one of our programs starts another
    logging.py, formatting.py      log lines; sizes, counts and spans of time for people

`python -m warehouse.conf` prints the documentation and a sample file, both generated from the settings.
"""
