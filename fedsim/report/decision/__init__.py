"""A page for those who decide: what a choice would gain, at what privacy and cost, and how sure that is.

`spec` reads decision.yaml, `evidence` takes what runs show, `model` is the arithmetic, `document` puts all
numbers into one JSON document, and `page` shows that document by `sections` in a language of `words`.
"""
