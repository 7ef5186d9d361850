"""The front for plain HTTP/1.1: a Trio task for each connection, parsed by llhttp."""
