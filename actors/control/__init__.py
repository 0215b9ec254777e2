"""Control: what the master decides.

Each file is one subject.  Those with `routes` answer requests (`routes.py`): sessions, objects, leases,
commits, uploads, presigning, disks, job_requests, status.  The others are what the handlers decide by: disks
and volumes (`fleet`), room (`allocation`, `reservations`), jobs, events, damage.

`actors/master.py` builds all of them and connects them to the hub; nothing here opens a socket.
"""
