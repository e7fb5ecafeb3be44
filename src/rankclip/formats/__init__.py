"""Formats turn a ranking into bytes. One file each, `registry.FORMATS` names them; they know records, not the command line."""
