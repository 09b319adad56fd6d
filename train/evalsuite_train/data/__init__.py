"""The data: from raw files of any of the usual formats to clean, counted training text."""
