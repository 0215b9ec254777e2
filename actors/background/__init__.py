"""Background: what a compactor does, with whatever the others on its machine leave."""
