"""The command line's verbs: text twins of the screens, and commands made from the registry of actions."""
