"""What is made of the descriptions of the keys: the example, the tables of the page, the schema."""
