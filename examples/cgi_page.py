#!/usr/bin/env python3
"""Shows a CGI program, a process for each web request, that evaluates flags for the visitor.

Needs ldreader. It is run as it is by web servers that speak CGI: put it, or a link to it, among their programs.
Run it here with: QUERY_STRING='customer=ada&country=GB&plan=gold' examples/cgi_page.py
It reads shop.json beside it, or the store that LDREADER_STORE names, such as redis://localhost:6379.
"""

import os
import sys

from ldreader import Context, FlagReader


def values(text: str, separator: str) -> dict[str, str]:
    """The values in a query or in cookies, by name."""
    found = dict(pair.strip().partition("=")[::2] for pair in text.split(separator))
    if "%" in text or "+" in text:
        # Only now: importing it costs more than all the rest, and most requests need none of it.
        from urllib.parse import unquote_plus

        found = {unquote_plus(name): unquote_plus(value) for name, value in found.items()}
    return found


query = values(os.environ.get("QUERY_STRING", ""), "&")
cookies = values(os.environ.get("HTTP_COOKIE", ""), ";")
visitor = Context.builder(query.get("customer") or cookies.get("customer") or "nobody")
for name in ("country", "plan", "locale"):
    visitor.set(name, query.get(name))

store = os.environ.get("LDREADER_STORE") or f"file:{os.path.dirname(os.path.realpath(__file__))}/shop.json"
with FlagReader.from_url(store) as reader, reader.request(visitor.build()) as flags:
    flags.prefetch("new-checkout", "banner-text")
    checkout = "new" if flags.bool_variation("new-checkout", False) else "old"
    banner = flags.string_variation("banner-text", "Welcome")

body = f"{banner}\nYou see the {checkout} checkout.\n".encode()
head = f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n".encode()
sys.stdout.buffer.write(head + body)
