"""The OpenAPI 3.1 document of this server, built from the table of routes and those beside it."""
