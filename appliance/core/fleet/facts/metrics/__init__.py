"""Numbers of a node, asked every round; each look costs the node four processes."""
