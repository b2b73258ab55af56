"""Tests that run the server as a process and talk to it by sockets and signals only."""
