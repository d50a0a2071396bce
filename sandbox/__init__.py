"""Development only: a stand-in for Vapi and a playground page; never installed."""
