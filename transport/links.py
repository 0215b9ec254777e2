"""Links: the control plane's two ends, `Hub` (ROUTER) and `Link` (DEALER), under one name."""

from transport.hub import Hub, HubCounters, HubLimits, Peer
from transport.link import Link

__all__ = ["Hub", "HubCounters", "HubLimits", "Link", "Peer"]
