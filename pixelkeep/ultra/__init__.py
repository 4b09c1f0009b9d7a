"""Everything that touches Ultralytics. No other part of the package imports it."""
