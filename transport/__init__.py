"""Transport: how do messages and bytes travel?

`messages` names what actors say to each other.  `zeromq` carries it over encrypted ROUTER and DEALER sockets.
`http` carries the bytes of needles.  Nothing here decides who may do what.
"""
