"""Transport: how do messages and bytes travel?

`messages` names what actors say to each other, `links` carries it over encrypted ROUTER and DEALER
sockets, `http_server` and `http_client` carry needle bytes.  Nothing here decides who may do what.
"""
