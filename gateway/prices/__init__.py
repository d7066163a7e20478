"""What an answer costs, and how that stays true next year.

The packaged data of `genai-prices` enters the log as `price_published` events on `price-<provider>` (package.py),
once for each release of the data. A running server prices from those events alone (table.py), books the amount and the
rule's name in the event that ends a generation, and never prices it again. A rule is the price list of one model, in
the words of that data (rules.py); an amount is integer arithmetic over it (cost.py).
"""
