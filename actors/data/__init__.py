"""Data: what a volume actor does with the requests of its clients.

`needle_http` finds the handler of a request: `needle_get`, `needle_put` or `batch_http`.  `commit_pipeline`
and `fsync` make needles durable and visible; `cold_reads` and `sending` deliver them.  `master_session` and
`commands` speak with the master; `volumes` holds what is open.
"""
