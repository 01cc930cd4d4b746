"""Messages that come in and go out: requests, replies, dead letters, ticks."""
