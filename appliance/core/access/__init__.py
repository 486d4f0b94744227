"""Who may use the API: sessions with signed tokens, tokens for programs, second factors, and certificates."""
