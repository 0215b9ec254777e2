"""The format to the byte: needles, superblocks, stamps, checksums.  Pure; docs/format.md shows the layout."""
