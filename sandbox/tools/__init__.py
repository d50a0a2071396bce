"""A tool server of the clinic, and the webhooks with which Vapi calls it."""
