"""LaunchDarkly's own writers, each a small program in its language, and what starts them.

A program runs one official SDK with its persistent store; `stream.py` plays LaunchDarkly's streaming service, so full
loads, updates and deletions take the SDK's real path into the store. The Relay Proxy reads a flag archive instead.
"""
