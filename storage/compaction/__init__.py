"""Compaction: copies a volume without its dead needles into a next generation, and switches to it.

`scrub` reads what is there again and checks it.
"""
