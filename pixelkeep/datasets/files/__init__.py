"""Single files of each format: COCO JSON, VOC XML and image lists, YOLO label files; images and JSON on disk."""
