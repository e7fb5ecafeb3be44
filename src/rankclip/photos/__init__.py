"""Photos on disk: finding them, telling what they are, decoding them apart from the main process."""
