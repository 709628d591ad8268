"""Of what people are told, decided from the journal and from what was measured."""
