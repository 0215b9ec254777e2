"""Copying: from sources and targets to transfers of files and objects."""
