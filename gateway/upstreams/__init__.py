"""One file per protocol family. Provider differences are data in `registry`."""
