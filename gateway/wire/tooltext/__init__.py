"""Tools on models without tools: a model is told of them in its prompt, and its calls are found in its text.

formats.py   which words each family of models was taught for a call
models.py    which models have no tools of their own, and which words to use with them
prompt.py    a chat body with tools -> one without, the tools described in the prompt
parser.py    text in pieces -> text and calls; with source.py, regions.py, calls.py, code.py
decoder.py   the parser around a family's decoder, live and in replay
rewrite.py   the other way: calls -> text, for clients that read them there
"""
