"""Models that run here, without another server: each in a worker process of its own.

    family.py     the provider's side: requests in, OpenAI's chunks or vectors out
    request.py    a chat body in the words of a worker (pure)
    found.py      which models lie on this machine, and which names are allowed
    host.py       one load for all requests; loads, unloads, and says so
    process.py    one worker process, seen from the server
    worker.py     the same, from inside: it runs one engine, one request after the other
    engine.py     what a worker asks of an engine
    huggingface.py, mlx.py, sentences.py   the engines

A worker that crashes (a segmentation fault, the kernel short of memory) fails its answers and nothing else.
"""
