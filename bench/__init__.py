"""Peers side by side, in turn, in one process: `python -m bench` (or `make bench`) prints this machine's figures."""
