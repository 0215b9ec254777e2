"""HTTP: the lean HTTP/1.1 server of the data plane, a pool of connections to it, the rules of its headers."""
