"""The page, the API and who may use them."""
