"""The console: the store in a browser, with the rights of the API key that a person signs in with."""
