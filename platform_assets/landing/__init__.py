"""Landing: fetch source files, unpack them and split them into rows; sample data and the source sensor."""
