"""Takes each flow where its decision says."""
