"""One module for each library that can run the network."""
