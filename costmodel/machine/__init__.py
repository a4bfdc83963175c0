"""Kernels on an engine: the time of each, and what bounds it. One file an engine class."""
