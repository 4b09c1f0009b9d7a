"""Models and files that ``--model`` and ``--weights`` may name, checked before use without executing code in them."""
