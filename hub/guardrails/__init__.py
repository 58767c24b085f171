"""What looks into payloads."""
