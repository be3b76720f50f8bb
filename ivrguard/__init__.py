"""ivrguard: Zero Trust on the phone, between Twilio's voice webhooks and your IVR."""
