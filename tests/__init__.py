"""Tests, a folder for each package and a file for each module."""
