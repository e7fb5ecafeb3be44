"""Engines compute features on a device. One protocol (`base`), one file each; `registry.ENGINES` names them."""
