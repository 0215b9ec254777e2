"""Gateway: who asks over S3, for what, and how is it answered?

The shell around `s3`, which says what S3 means: HTTP on one side, the client library on the other.  It keeps
nothing but what the master can make void.
"""
