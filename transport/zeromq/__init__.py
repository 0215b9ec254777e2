"""The control plane: encrypted ROUTER (`hub`) and DEALER (`link`) sockets, and who is at the other end."""
