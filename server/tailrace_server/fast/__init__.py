"""The front for plain HTTP/1.1: many requests at a time, and a Trio task for what is not plain."""
