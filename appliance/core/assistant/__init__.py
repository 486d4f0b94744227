"""The assistant: talks with language models about the appliance, with its live state and its actions at hand."""
