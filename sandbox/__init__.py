"""Development only: a stand-in for Vapi and a page to try the service with; never installed."""
