"""Writes the pages that are generated: the reference of RPCs, settings and commands, and the files of the root folder.

Knows MkDocs in `hook` alone; the other modules return the text of pages.
"""
