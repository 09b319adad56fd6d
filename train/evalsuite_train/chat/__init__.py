"""The chat service: a checkpoint behind ``POST /chat`` and a web page, answering one after another."""
