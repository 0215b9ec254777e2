"""S3: what does S3 mean?  Requests, signatures, framings and documents, as values in and values out.

Nothing here knows Trio, a socket, a file or a clock: whoever asks says what time it is.  The gateway is the
shell around it.
Source: the Amazon S3 API reference, and botocore's model of it.
"""
