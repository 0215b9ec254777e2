"""Measuring: `warehouse bench`, through the library, from several processes."""
