"""Previews: what a page shows of an object's bytes.

Everything that comes from an object is text here, bounded in bytes and in what is made of them.  Two kinds of
work can take long for the worst of inputs, highlighting code and rendering Markdown: they run in a process
of their own, which is ended when it takes too long (`formatter.py`).
"""
