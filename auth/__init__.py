"""Auth: who may do what?

`keys` makes and checks API keys, the long-lived credentials; `rights` says what a key allows; `tokens`
are the short-lived proofs that both buy.  Pure: times, keys and entropy are arguments, nothing here
opens a file, a socket or a clock.
"""
