"""What training shows of large images and small objects: windows, those of an epoch, objects copied elsewhere."""
