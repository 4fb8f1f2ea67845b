"""What an attacker may do against the protection."""
