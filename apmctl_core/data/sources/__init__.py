"""Where images come from, one module each; each opens to a `rows.Source`."""
