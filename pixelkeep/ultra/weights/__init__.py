"""What ``--model`` and ``--weights`` may name, checked before use without executing what the file carries."""
