"""The data plane: a lean HTTP/1.1 server and a pool of connections to it, and the rules of its headers."""
