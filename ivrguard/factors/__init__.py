"""One file a factor: right or wrong, in equal time; none counts."""
