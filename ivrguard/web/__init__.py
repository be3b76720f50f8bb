"""ROOF: the only code that knows aiohttp on the way in."""
