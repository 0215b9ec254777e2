"""Auth: who may do what?

`keys` makes and checks API keys, the long-lived credentials.  `rights` says what a key allows.  With a key
a client buys an access token (`access_tokens`), and with that it gets data tokens (`data_tokens`), each the
right to do one thing on one volume.  `sealing` encrypts secrets that the store has to read again.  Pure:
times, keys and entropy are arguments; nothing here opens a file or a socket, or reads a clock.
"""
