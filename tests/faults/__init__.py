"""Disks that fill, fail and dawdle."""
