"""Label files: read files with labels of predictions from a folder, and store the labels of every model.

`POST /labels/{model}` takes single labels. The subpackage `monitoring` stores labels and joins them to predictions.
"""
