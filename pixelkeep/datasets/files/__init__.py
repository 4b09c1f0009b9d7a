"""One file of a format: COCO JSON, VOC XML and lists, YOLO rows; images and JSON on disk."""
