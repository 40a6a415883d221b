"""UDP flows: associations, their pauses, and datagrams to names."""
