"""Who is enrolled with what."""
