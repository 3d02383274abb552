"""arlab: build, train and decode an autoregressive transformer, and watch it work.

Data flows one way and so do the imports: text -> nn -> training, decoding -> views, exercises.
`arlab.setup(seed=0)` is the line that each notebook starts with.
"""

from arlab.lab import Lab, setup

__version__ = "0.1.0"
__all__ = ["Lab", "setup"]
