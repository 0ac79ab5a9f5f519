"""Where streams come from, a module a transport. Adding one is adding a module here; see `flows.streams.source`."""
