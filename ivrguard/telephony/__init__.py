"""Pure dialects of the provider: bytes in, bytes out."""
