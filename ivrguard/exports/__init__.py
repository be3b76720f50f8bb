"""The record as others read it: words and classes for each event, lines of JSON, files of them."""
