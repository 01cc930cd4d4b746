"""Jobs and every decision about them. Pure: no I/O, no clock."""
