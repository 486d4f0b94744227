"""Alert rules over the live state; evaluated whether or not anybody looks."""
