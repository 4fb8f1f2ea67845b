"""mtlue: protect labelled images before you publish them."""

__version__ = "0.1.0"
