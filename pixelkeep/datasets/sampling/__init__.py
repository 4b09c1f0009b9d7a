"""What training shows of large images and small objects: windows, their choice per epoch, and copied objects."""
