"""Links: the control plane's two ends, `Hub` (ROUTER) and `Link` (DEALER), under one name."""

from warehouse.transport.hub import Hub, HubCounters, HubLimits, Peer
from warehouse.transport.link import Link

__all__ = ["Hub", "HubCounters", "HubLimits", "Link", "Peer"]
