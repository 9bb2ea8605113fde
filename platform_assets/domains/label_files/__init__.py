"""Label files: files with labels of predictions land in a folder, and their labels are stored for every model.

`POST /labels/{model}` does the same for single labels; the room `monitoring` stores and joins both.
"""
