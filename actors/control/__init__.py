"""Control: what the master decides.

Each file is one subject: disks and volumes, room for what is to be written, jobs, events, damage.
`actors/master.py` builds them and connects them to the hub; nothing here opens a socket.
"""
