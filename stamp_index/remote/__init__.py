"""Object storage: addresses, clients, messages without secrets, and local copies of what lies there."""
