"""The files that workers write: the coordinator asks for them, and orders what is decided of them."""
