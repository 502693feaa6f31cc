"""The shell of apmctl: parse, show, exit."""
