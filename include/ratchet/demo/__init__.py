"""The demonstration: real flights, landed day by day as if an airline sent them."""
