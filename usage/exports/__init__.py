"""Calls as files: the same calls that a list shows, in the formats that other programs read.

`selection` says which calls and copies them out of PostgreSQL, `columns` and `focus` what each row says, `formats` how
it is written, `jobs` how a large file comes about in the background.
"""
