"""Labels of predictions, read from files in a folder and stored for every model.

`POST /labels/{model}` takes single labels. The subpackage `monitoring` stores labels and joins them to predictions.
"""
