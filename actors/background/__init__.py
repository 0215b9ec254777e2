"""Background: what a compactor does, with the processor and disk time that other processes leave."""
