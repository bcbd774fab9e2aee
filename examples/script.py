"""Shows a short script that evaluates flags for one customer.

Needs ldreader; to read Redis, also the package redis.
Run it with: python examples/script.py [CUSTOMER]
It reads shop.json beside it, or the store that LDREADER_STORE names, such as redis://localhost:6379.
"""

import os
import sys
from pathlib import Path

from ldreader import Context, FlagReader

store = os.environ.get("LDREADER_STORE") or f"file:{Path(__file__).with_name('shop.json')}"
customer = sys.argv[1] if len(sys.argv) > 1 else "ada"
context = Context.builder(customer).set("country", "GB").set("plan", "gold").build()

with FlagReader.from_url(store) as reader, reader.request(context) as flags:
    checkout = "new" if flags.bool_variation("new-checkout", False) else "old"
    prices = flags.json_variation("shipping-prices", {"currency": "EUR", "standard": 5})
    print(f"{customer} sees the {checkout} checkout; shipping costs {prices['standard']} {prices['currency']}")
