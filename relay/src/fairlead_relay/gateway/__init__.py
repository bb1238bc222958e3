"""The port that agents dial: mutual TLS, enrolment, and one protocol session per agent."""
