"""The store: which photos are known, and their features. One class (`store.Store`) is the door; the other files are its rooms."""
