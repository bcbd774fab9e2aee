"""Where people run it: what ties a reader to a framework or a platform."""
