"""The files on the nodes of a run: what there is, and some of it brought here."""
