"""Client: what does a program write to use a store?

store.py, bucket.py     the public face: `connect`, `Store`, `Bucket`
listing.py              the objects and folders of a bucket, page by page
maintenance.py          compactions, verifications, events: a second part of `Store`
identities.py           accounts and API keys: a third part of it; grant_texts.py how grants are written
writing/                small puts one by one, together, and from `put_many`; large ones in chunks
reading/                from a key to its place, from a place to verified bytes; `get_many`
ordered_batches.py      many items in, as many results out, in the same order: `put_many` and `get_many`
control.py              the conversation with the master: login, requests, repeats
headers.py              keys, conditions and metadata as HTTP headers; failures from HTTP answers (pure)
patience.py             how often, and for how long, a failure is followed by another attempt
nurseries.py            nurseries whose errors leave as they are
files.py, leftovers.py  where downloads go, and what killed downloads left behind
"""
