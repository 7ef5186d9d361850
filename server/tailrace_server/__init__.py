"""The HTTP server of tailrace: two fronts over one service, and the command line."""
