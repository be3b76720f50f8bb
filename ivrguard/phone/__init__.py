"""A telephone and a pretend Twilio: play, demo, tests."""
