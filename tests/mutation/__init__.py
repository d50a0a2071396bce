"""`make mutants`: mutation testing of the packages that decide who gets a session."""
