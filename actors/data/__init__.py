"""Data: what a volume actor does with the requests of its clients.

`needle_http` and `batch_http` answer requests, `commit_pipeline` and `fsync` make what they bring durable,
`cold_reads` and `sending` deliver it.
"""
