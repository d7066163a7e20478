"""One client request and everything done to answer it. Pure files: inputs, state, decide, render. One shell: run."""
