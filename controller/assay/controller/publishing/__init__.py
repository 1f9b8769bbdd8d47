"""What publishers sign: keys, envelopes, and the lists of files they are over.

The controller only keeps envelopes and passes them on; it trusts no publisher and needs none.
Reference: docs/decisions/signatures.md.
"""
